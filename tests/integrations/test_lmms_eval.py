"""With lmms-eval itself and torchvision, in an environment of their own: ``make test-lmms-eval``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stgraph import STSimDiff, Video, VideoQA
from stgraph.app.config import resolve
from stgraph.models.prompt import ProcessorPrompt, load_prompt
from stgraph.models.prompt_files import video_settings
from stgraph.models.torch_prompt import OWN, TorchPrompt

from ..clips import write_clip
from ..models.folders import tiny_folder
from ..models.prompt_folders import prompt_folder
from .mended import mend

pytestmark = pytest.mark.lmms_eval

QUESTIONS = ("What happens?", "Why?", "Which number comes last?")
TASK = """\
task: numbers
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/questions.jsonl
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 6
  temperature: 0
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
FUNCTIONS = """\
def visual(sample):
    return [sample["video"]]


def text(sample, lmms_eval_specific_kwargs=None):
    return sample["question"]
"""


@pytest.fixture(scope="module", autouse=True)
def torchvision():
    """Without it, or beside a broken one, transformers has no processors of videos."""
    mend()


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A folder with a task: questions about one clip."""
    folder = tmp_path_factory.mktemp("task")
    clip = write_clip(folder / "clip.mp4", 24)
    rows = [{"video": str(clip), "question": question, "answer": "A"} for question in QUESTIONS]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "task").mkdir()
    (folder / "task" / "numbers.yaml").write_text(TASK.format(folder=folder))
    (folder / "task" / "utils.py").write_text(FUNCTIONS)
    return folder


def evaluate(task, output, *settings, batch_size=1, ranks=1):
    """Results and samples of a run of lmms-eval, in one process or several of their own, offline."""
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command = [
        *start, Path(__file__).with_name("mended.py"), "eval", "--model", "stgraph", "--model_args",
        ",".join(settings), "--tasks", "numbers", "--include_path", task / "task", "--batch_size", str(batch_size),
        "--log_samples", "--output_path", output,
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(output / "cache")}
    run = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (results,) = output.rglob("*_results.json")
    (samples,) = output.rglob("*_samples_numbers.jsonl")
    return (
        json.loads(results.read_text("utf-8")),
        [json.loads(line) for line in samples.read_text("utf-8").splitlines()],
        run,
    )


@pytest.mark.parametrize(
    ("family", "settings", "trim"),
    [
        ("qwen2_5_vl", {"retention": 0.3}, "before"),
        ("llava_video", {"selector": "fastv", "retention": 0.1}, "inside"),
        ("qwen2_5_vl", {"selector": "none"}, "before"),
    ],
)
def test_answers_and_savings_are_in_the_results(task, family, settings, trim, tmp_path):
    model = tiny_folder(tmp_path / "model", family)
    words = [f"{key}={value}" for key, value in settings.items()]
    given = [f"pretrained={model}", f"trim={trim}", "video.frames=8", *words]
    results, samples, run = evaluate(task, tmp_path / "out", *given)
    assert results["results"]["numbers"]["exact_match,none"] == 0
    assert results["n-samples"]["numbers"]["effective"] == len(QUESTIONS) == len(samples)

    selector = None if settings.get("selector") == "none" else resolve((), settings).selector()
    qa = VideoQA.from_pretrained(model, selector, trim=trim, sampling={"frames": 8}, max_new_tokens=6)
    samples.sort(key=lambda sample: sample["doc_id"])
    for sample, question in zip(samples, QUESTIONS, strict=True):
        answer = qa(task / "clip.mp4", question)
        report = answer.report
        assert sample["input"] == question
        assert sample["filtered_resps"] == answer.text
        assert sample["token_counts"] == [{"input_tokens": report.prompt_kept, "output_tokens": report.generated}]
        assert (report.kept < report.tokens / 2) == (selector is not None)
    said = "".join(run.stdout.split())
    assert f"avg_video_tokens|{report.tokens:.4f}" in said
    assert f"avg_kept_tokens|{report.kept:.4f}" in said


@pytest.mark.parametrize(("batch_size", "ranks"), [(2, 1), (1, 2)])
def test_the_protocol_of_the_release_in_batches_and_by_ranks(task, batch_size, ranks, tmp_path):
    model = tiny_folder(tmp_path / "model", "llava_video")
    given = [f"pretrained={model}", "protocol=release", "retention=0.3", "max_new_tokens=99"]
    results, samples, _ = evaluate(task, tmp_path / "out", *given, batch_size=batch_size, ranks=ranks)
    assert results["n-samples"]["numbers"]["effective"] == len(QUESTIONS) == len(samples)
    selector = resolve((), {"retention": 0.3}).selector()
    sampling = {"fps": 1, "max_frames": 64}
    qa = VideoQA.from_pretrained(model, selector, time_instruction=False, sampling=sampling, max_new_tokens=6)
    samples.sort(key=lambda sample: sample["doc_id"])
    for sample, question in zip(samples, QUESTIONS, strict=True):
        answer = qa(task / "clip.mp4", question)
        report = answer.report
        assert sample["input"] == question
        assert sample["filtered_resps"] == answer.text
        assert sample["token_counts"] == [{"input_tokens": report.prompt_kept, "output_tokens": report.generated}]


def film(frames, height, width):
    """Noise."""
    noise = torch.Generator().manual_seed(frames)
    pixels = torch.randint(0, 256, (frames, 3, height, width), dtype=torch.uint8, generator=noise)
    return Video(pixels, 0.3 + 0.37 * torch.arange(frames, dtype=torch.float64), duration=9.0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, {}) for name in OWN), *((name, {"cap_pixels_per_frame": True}) for name in ("qwen2_5_vl", "qwen3_vl"))],
)
@pytest.mark.filterwarnings("ignore")
def test_inputs_without_torchvision_are_those_of_the_processor(name, settings, tmp_path):
    from transformers import AutoTokenizer

    model = prompt_folder(tmp_path, name, **settings)
    theirs = load_prompt(str(tmp_path), model)
    assert isinstance(theirs, ProcessorPrompt)
    ours = TorchPrompt(AutoTokenizer.from_pretrained(tmp_path), model, OWN[name], video_settings(str(tmp_path)))
    for frames, height, width in ((2, 16, 16), (4, 48, 64), (7, 90, 31), (12, 13, 17)):
        video = film(frames, height, width)
        mine, wanted = ours(video, QUESTIONS[0]), theirs(video, QUESTIONS[0])
        assert mine.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(mine[key], torch.as_tensor(value), atol=1e-5, rtol=0, check_dtype=False, msg=key)


@pytest.mark.filterwarnings("ignore")
def test_a_family_that_only_its_processor_prepares(tmp_path):
    model = prompt_folder(tmp_path, "video_llama_3")
    prompt = load_prompt(str(tmp_path), model)
    answer = VideoQA(model, prompt, STSimDiff(retention=0.3), max_new_tokens=3)(film(6, 40, 56), QUESTIONS[0])
    assert 0 < answer.report.kept <= -(-answer.report.tokens * 3 // 10)
    assert answer.report.generated == 3
