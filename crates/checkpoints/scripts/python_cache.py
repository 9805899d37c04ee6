"""Checks that Python's huggingface_hub finds the files in the cache that `cargo xtask fetch-weights` wrote.

    HF_HOME=CACHE cargo xtask fetch-weights OWNER/NAME
    HF_HOME=CACHE python crates/checkpoints/scripts/python_cache.py OWNER/NAME FILE...     # needs huggingface_hub

Nothing is downloaded: it fails if a file is not there.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache  # noqa: E402


def main():
    repository, files = sys.argv[1], sys.argv[2:]
    for name in files:
        path = hf_hub_download(repository, name)
        assert try_to_load_from_cache(repository, name) == path
        print(f"{name}: {os.path.getsize(path)} bytes at {path}")
    found = scan_cache_dir()
    assert not found.warnings, found.warnings
    models = {repo.repo_id: repo for repo in found.repos}
    revisions = models[repository].revisions
    print(f"{repository}: {len(revisions)} revision(s), {models[repository].size_on_disk} bytes, no warnings")


if __name__ == "__main__":
    main()
