"""Counts tokens for whoever asks: one JSON list of texts a line in, one JSON list of counts a text out.

Runs in the environment of `requirements/tokenizers.lock`, with nothing of ours. The vocabularies are those that
a package carries, so no network is needed: o200k and cl100k of OpenAI, and an older one of Claude.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Answer each line until there are no more."""
    found = importlib.util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    vocabularies = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(vocabularies)
    import tiktoken
    import tokenizers

    openai = [tiktoken.get_encoding(name) for name in ("o200k_base", "cl100k_base")]
    claude = tokenizers.Tokenizer.from_file(str(vocabularies / "anthropic_tokenizer.json"))
    for line in sys.stdin:
        counts = [
            [
                *(len(one.encode(text, disallowed_special=())) for one in openai),
                len(claude.encode(text, add_special_tokens=False).ids),
            ]
            for text in json.loads(line)
        ]
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
