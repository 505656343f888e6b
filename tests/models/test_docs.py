"""The worked example of an adapter in the documentation runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stgraph import StgraphError, STSimDiff
from stgraph.budget import ceil_share
from stgraph.models import MODELS

from .test_attachment import RETENTION, greedy, hidden_columns
from .zoo import IDS, MROPE, QWEN_VISION, TEXT, VIDEO, Family, masked_run

GLM = Family(
    "glm4v",
    "Glm4v",
    {
        "vision_config": QWEN_VISION | {"hidden_size": 32, "out_hidden_size": 32, "image_size": 16},
        "text_config": TEXT | MROPE,
    }
    | IDS
    | {"image_token_id": VIDEO, "video_token_id": 2},
    timestamps=True,
)


def test_the_adapter_of_the_documentation_is_exact(monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    example = next(block for block in text.split("```python\n") if "class Glm4v" in block).split("```")[0]
    assert len(example.splitlines()) < 60
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))
    model, inputs = GLM.build("sdpa"), GLM.inputs([[4], [5], []])
    with pytest.raises(StgraphError, match="no adapter for models of type 'glm4v'"):
        STSimDiff().attach(model)
    exec(example, {"model": model, "inputs": inputs | {"max_new_tokens": 1}})
    with STSimDiff(retention=RETENTION).attach(model, trim="inside") as attached:
        out = greedy(model, inputs)
    assert attached.selection.budget == (ceil_share(RETENTION, 4 * 6), ceil_share(RETENTION, 5 * 4))
    hidden = hidden_columns(inputs, attached.selection, "inside", 2)
    reference = masked_run(model, inputs, out.sequences, hidden)
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)
