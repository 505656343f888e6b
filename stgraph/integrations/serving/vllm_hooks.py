"""Where vLLM is held: functions and methods of it that are put aside for ours, and checks of the model it serves.

What this relies on is checked before anything is changed. The selector of the process is :data:`ACTIVE`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from torch import Tensor

from ...errors import StgraphError
from .dump import Dump
from .settings import Settings
from .swapping import swap, when_imported
from .vllm_faults import faults
from .vllm_models import WIDTH, attach_plan, check_parameters, patch_qwen2_5, patch_qwen3, patch_width

LOG = logging.getLogger("stgraph.serving")

PRUNING = ("vllm.multimodal.video_prune.evs", "vllm.multimodal.evs")
"""Where vLLM keeps its pruning, the newer place first."""

SIGNATURES = {
    "compute_retained_tokens_count": ("tokens_per_frame", "num_frames", "q"),
    "compute_retention_mask": ("video_embeds", "video_size_thw", "spatial_merge_size", "q"),
}

ARCHITECTURES = (
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLMoeForConditionalGeneration",
)
"""Models that are served."""


@dataclass
class Active:
    """What serves in this process.

    Attributes:
        settings: of the environment.
        rate: vLLM's pruning rate, once a model has been configured here.
        seconds: of each call of the selector.
    """

    settings: Settings
    rate: float | None = None
    seconds: list[float] = field(default_factory=list)


ACTIVE: Active | None = None


def install(variable: str) -> None:
    """Read the environment, check this vLLM, put everything in its place, and say in one line what serves.

    It may be called again: then only the settings are read anew.

    Raises:
        StgraphError: the environment, or this vLLM, is not one that can be served.
    """
    global ACTIVE
    settings = Settings.from_environment(variable)
    pruning = _pruning()
    first, ACTIVE = ACTIVE is None, Active(settings)
    if first:
        for handler in logging.getLogger("vllm").handlers:
            LOG.addHandler(handler)
        LOG.setLevel(logging.INFO)
        swap(pruning.compute_retained_tokens_count, retained_tokens_count, "vllm")
        swap(pruning.compute_retention_mask, retention_mask, "vllm")
        when_imported("vllm.model_executor.models.qwen2_5_vl", _on_qwen2_5)
        when_imported("vllm.model_executor.models.qwen3_vl", _on_qwen3)
        when_imported("vllm.config.model", _on_model_config)
        when_imported("vllm.multimodal.processing.inputs", _on_hashes)
        when_imported("vllm.v1.worker.cpu_model_runner", _on_cpu_runner)
        when_imported("vllm.v1.worker.gpu.mm.rope", _on_rope_state)
    LOG.info(
        "stgraph chooses the video tokens: %s (%s)%s",
        settings.selector.configuration,
        settings.selector.fingerprint,
        f", selections go to {settings.dump}" if settings.dump else "",
    )


def active() -> Active:
    """What serves in this process, after :func:`install`."""
    if ACTIVE is None:
        raise StgraphError("no selector serves in this process; set STGRAPH_VLLM")
    return ACTIVE


# -- the two questions -------------------------------------------------------------------------------------------------


def retained_tokens_count(tokens_per_frame: int, num_frames: int, q: float) -> int:
    """In the place of vLLM's function of that signature: how many tokens of a video stay."""
    return active().settings.selector.count(int(tokens_per_frame) * int(num_frames), q)


def retention_mask(video_embeds: Tensor, video_size_thw: Any, spatial_merge_size: int, q: float) -> Tensor:
    """In the place of vLLM's function of that signature: which ones, (N,) bool."""
    serving = active()
    frames, height, width = (int(size) for size in video_size_thw)
    grid = (frames, height // spatial_merge_size, width // spatial_merge_size)
    columns = WIDTH.get()
    features = video_embeds.detach()[:, : columns or video_embeds.shape[1]]
    dump = Dump(serving.settings.dump, serving.settings.selector, q) if serving.settings.dump else None
    start = time.perf_counter()
    with _may_wait():
        mask = serving.settings.selector.mask(features, grid, q, record=dump)
    serving.seconds.append(time.perf_counter() - start)
    return mask


def _may_wait() -> Any:
    """vLLM's permission to wait for the device, where it has one."""
    import contextlib

    try:
        from vllm.utils.torch_utils import gpu_sync_allowed
    except ImportError:
        return contextlib.nullcontext()
    return gpu_sync_allowed()


# -- checks ------------------------------------------------------------------------------------------------------------


def _pruning() -> ModuleType:
    """vLLM's module of pruning functions, with the signatures that are replaced."""
    import vllm

    for name in PRUNING:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        for function, parameters in SIGNATURES.items():
            if not hasattr(module, function):
                raise StgraphError(f"{name} of vLLM {vllm.__version__} has no {function}; {_OTHER}")
            original = getattr(module, function)
            if original not in (retained_tokens_count, retention_mask):
                check_parameters(original, parameters, f"{name}.{function}")
        return module
    raise StgraphError(f"vLLM {vllm.__version__} keeps video pruning in none of {', '.join(PRUNING)}; {_OTHER}")


_OTHER = "install a version that docs/serving.md names, or unset STGRAPH_VLLM"


def check_model(config: Any) -> None:
    """Refuse a model or a pruning method of vLLM's that does not go with the selector.

    Args:
        config: vLLM's ModelConfig.

    Raises:
        StgraphError: another method beside it, or a model whose positions are not known.
    """
    multimodal = config.multimodal_config
    if multimodal is None or not multimodal.video_pruning_rate:
        LOG.warning("STGRAPH_VLLM is set, but without --video-pruning-rate above 0 all video tokens stay")
        return
    method = getattr(multimodal, "video_pruning_method", "evs")
    if method != "evs":
        raise StgraphError(f"--video-pruning-method {method} and STGRAPH_VLLM both choose tokens; leave one out")
    if config.architecture not in ARCHITECTURES:
        raise StgraphError(
            f"STGRAPH_VLLM does not serve {config.architecture}; it serves {', '.join(ARCHITECTURES)}; unset it, or "
            "leave --video-pruning-rate out"
        )
    active().rate = float(multimodal.video_pruning_rate)


# -- what is done as soon as a module of vLLM has been imported --------------------------------------------------------


def _on_qwen2_5(module: ModuleType) -> None:
    mend(module.Qwen2_5_VLForConditionalGeneration, lambda cls: patch_qwen2_5(cls, retention_mask))


def _on_qwen3(module: ModuleType) -> None:
    patch_width(module.Qwen3VLForConditionalGeneration)
    mend(module.Qwen3VLForConditionalGeneration, patch_qwen3)


def mend(cls: Any, patch: Callable[[Any], None]) -> None:
    """Patch the positions of a model's class where they are wrong, and see that they are right then.

    Raises:
        StgraphError: they are wrong still; the server does not start.
    """
    wrong = _tried(cls)
    if not wrong:
        return
    patch(cls)
    left = _tried(cls)
    if left:
        name, reason = next(iter(left.items()))
        raise StgraphError(f"positions of {cls.__name__} in this vLLM are not right ({name}: {reason}); {_OTHER}")
    LOG.info("positions of %s are mended: %s", cls.__name__, ", ".join(wrong))


def _tried(cls: Any) -> dict[str, str]:
    """What goes wrong with a class, tried with the selector that serves and without a trace of it."""
    global ACTIVE
    serving = active()
    ACTIVE = Active(Settings(replace(serving.settings.selector, strict=True)))
    try:
        return faults(cls)
    finally:
        ACTIVE = serving


def _on_model_config(module: ModuleType) -> None:
    """Check every model as soon as its configuration exists."""
    cls, original = module.ModelConfig, module.ModelConfig.__post_init__

    @functools.wraps(original)
    def post_init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        check_model(self)

    cls.__post_init__ = post_init


def _on_hashes(module: ModuleType) -> None:
    """Two servers that share a cache of encoded videos must not take each other's where they prune differently."""
    cls, original = module.ProcessorInputs, module.ProcessorInputs.get_mm_hashes

    @functools.wraps(original)
    def get_mm_hashes(self: Any, *args: Any, **kwargs: Any) -> Any:
        hashes = original(self, *args, **kwargs)
        serving = active()
        if serving.rate is None:
            return hashes
        tail = f"{serving.settings.selector.fingerprint} {serving.rate!r}"
        return {
            modality: [hashlib.sha256(f"{each} {tail}".encode()).hexdigest() for each in many]
            for modality, many in hashes.items()
        }

    cls.get_mm_hashes = get_mm_hashes


def _on_cpu_runner(module: ModuleType) -> None:
    """The runner for CPUs does not record that the model prunes, and then reads positions as features."""
    cls, original = module.CPUModelRunner, module.CPUModelRunner.load_model

    @functools.wraps(original)
    def load_model(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        config = self.model_config.multimodal_config
        self.is_multimodal_pruning_enabled = config is not None and config.is_multimodal_pruning_enabled()

    cls.load_model = load_model


def _on_rope_state(module: ModuleType) -> None:
    """The second model runner copies positions into a buffer, so it returns other tensors than it was given."""
    cls = module.RopeState
    init, read = cls.init_prefill_positions, cls.read_prefill_positions
    parameters = ("self", "req_idx", "model", "prefill_token_ids", "mm_features")
    check_parameters(init, parameters, "RopeState.init_prefill_positions")
    check_parameters(read, ("self", "req_idx", "length"), "RopeState.read_prefill_positions")

    class Listening:
        """A model that records the plan of the positions that it returns."""

        def __init__(self, model: Any) -> None:
            self.model, self.plan = model, None

        def get_mrope_input_positions(self, *args: Any, **kwargs: Any) -> Any:
            positions, delta = self.model.get_mrope_input_positions(*args, **kwargs)
            self.plan = getattr(positions, "stgraph_plan", None)
            return positions, delta

    @functools.wraps(init)
    def init_prefill_positions(self: Any, req_idx: int, model: Any, prefill_token_ids: Any, mm_features: Any) -> None:
        listening = Listening(model)
        init(self, req_idx, listening, prefill_token_ids, mm_features)
        self.__dict__.setdefault("stgraph_plans", {})[req_idx] = listening.plan

    @functools.wraps(read)
    def read_prefill_positions(self: Any, req_idx: int, length: int) -> Tensor:
        positions: Tensor = read(self, req_idx, length).long()
        plan = self.stgraph_plans[req_idx]
        if plan is not None:
            attach_plan(positions, plan)
        return positions

    cls.init_prefill_positions = init_prefill_positions
    cls.read_prefill_positions = read_prefill_positions
