"""What transformers answers with the selector attached: ``python -m tests.integrations.serving.attached FOLDER FILE``.

Runs in the project's own environment, whose transformers is newer than vLLM allows. Each file holds the inputs of a
prompt; beside it comes one with tokens and their log-probabilities.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

STEPS = 4


def main(folder: str, *files: str) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file

    from stgraph import STSimDiff

    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    for file in files:
        with STSimDiff(retention=0.3, importance="novelty").attach(model), torch.no_grad():
            out = model.generate(
                **load_file(file),
                max_new_tokens=STEPS,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
                eos_token_id=None,
            )
        logits = torch.stack(out.logits)[:, 0].log_softmax(-1)
        tokens = out.sequences[0, -STEPS:].tolist()
        logprobs = [float(logits[step, token]) for step, token in enumerate(tokens)]
        Path(file).with_suffix(".json").write_text(json.dumps({"tokens": tokens, "logprobs": logprobs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
