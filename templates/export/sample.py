"""Loads the trained model of this folder and prints text of it: `python sample.py --prompt "import "`.

Needs torch and safetensors; tiktoken for a prompt. model.py was written by an agent: read it before you run this.
"""

import argparse
import base64
import codecs
import json
import sys
from pathlib import Path

import torch
from model import build_model
from safetensors import safe_open

HERE = Path(__file__).resolve().parent
FACTS = json.loads((HERE / "experiment.json").read_text(encoding="utf-8"))
LINES = (HERE / "tokenizer.tiktoken").read_bytes().splitlines()
TOKENS = [base64.b64decode(line.split()[0]) for line in LINES]
BOS = len(TOKENS)  # begins a document


def load(device="cpu"):
    """Return the trained model: idx (B, T), T up to FACTS["max_seq_len"] -> logits (B, T, len(TOKENS) + 1)."""
    model = build_model(len(TOKENS) + 1, FACTS["max_seq_len"], torch.device(device))
    with safe_open(HERE / "model.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        for name, other in (file.metadata() or {}).items():  # what two layers share is stored once
            weights[name.removeprefix("alias:")] = weights[other]
    own = dict(model.named_parameters(remove_duplicate=False))
    own |= dict(model.named_buffers(remove_duplicate=False))
    for name in own.keys() & weights.keys():
        own[name].data = own[name].data.to(weights[name].dtype)
    model.load_state_dict(weights)
    return model.to(device).eval()


def encode(text):
    """Return the token ids of a text."""
    import tiktoken

    ranks = {token: rank for rank, token in enumerate(TOKENS)}
    encoding = tiktoken.Encoding(
        "export", pat_str=FACTS["tokenizer_pattern"], mergeable_ranks=ranks, special_tokens={}
    )
    return encoding.encode_ordinary(text)


@torch.inference_mode()
def generate(model, ids, num_tokens, temperature=0.8, top_k=50, seed=0):
    """Yield `num_tokens` token ids that follow `ids`; temperature 0 takes the likeliest each time."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    ids = [BOS, *ids]
    for _ in range(num_tokens):
        idx = torch.tensor([ids[-FACTS["max_seq_len"] :]], device=device)
        logits = model(idx)[0, -1].float().cpu()
        best = logits.topk(min(top_k, len(logits)) if temperature else 1)
        chances = (best.values / (temperature or 1)).softmax(0)
        ids.append(int(best.indices[torch.multinomial(chances, 1, generator=generator)]))
        yield ids[-1]


def main():
    parser = argparse.ArgumentParser(description="Print text of the model in this folder.")
    parser.add_argument("--prompt", default="", help="what the text begins with")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    o = parser.parse_args()
    model = load(o.device)
    ids = encode(o.prompt) if o.prompt else []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    sys.stdout.reconfigure(errors="replace")
    sys.stdout.write(o.prompt)
    for i in generate(model, ids, o.tokens, o.temperature, o.top_k, o.seed):
        text = decoder.decode(TOKENS[i] if i < BOS else b"\n\n")
        # No sequences that change the terminal.
        sys.stdout.write("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text))
        sys.stdout.flush()
    print()


if __name__ == "__main__":
    main()
