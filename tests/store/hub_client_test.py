#!/usr/bin/env python3
"""Is hub_stub.py a hub? Asks the hub's own Python client, huggingface_hub (exit 77 where there is none; another
Python that has it may be named by HEARTH_HUB_PYTHON)."""
import hashlib
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
if os.environ.get("HEARTH_HUB_PYTHON") and not os.environ.get("HEARTH_HUB_TEST"):
    os.environ["HEARTH_HUB_TEST"] = "1"
    os.execv(os.environ["HEARTH_HUB_PYTHON"], [os.environ["HEARTH_HUB_PYTHON"], *sys.argv])
os.environ.update(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
for name in ("HF_TOKEN", "HF_ENDPOINT", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
    os.environ.pop(name, None)

import hub_stub  # noqa: E402
import net  # noqa: E402

PLACE = tempfile.TemporaryDirectory()
CA = net.Ca(pathlib.Path(PLACE.name) / "ca")
os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = str(CA.file)
try:
    from huggingface_hub import HfApi, errors, hf_hub_download, snapshot_download
except ImportError:
    net.skip("huggingface_hub is not installed (pip install huggingface_hub)")

BODY = b"GGUF" + os.urandom(300_000)
FILES = {"README.md": b"---\nlicense: apache-2.0\n---\n# Tiny\n", "tiny-Q4_K_M.gguf": BODY, "tiny-Q8_0.gguf": BODY * 2,
         "big/tiny-BF16-00001-of-00002.gguf": BODY[:5000], "big/tiny-BF16-00002-of-00002.gguf": BODY[:6000],
         "template": b"{{ .Prompt }}", "params": b'{"temperature": 0.5}'}


def refused(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"not {kind.__name__}")


def check(hub, folder):
    api = HfApi(endpoint=hub.url)
    repo = hub.repos["org/tiny-GGUF"]
    sha = repo.names["main"]
    info = api.model_info("org/tiny-GGUF", files_metadata=True)
    assert info.sha == sha and info.card_data.license == "apache-2.0" and info.gated is False
    sibling = next(s for s in info.siblings if s.rfilename == "tiny-Q4_K_M.gguf")
    assert sibling.size == len(BODY) and sibling.lfs.sha256 == hashlib.sha256(BODY).hexdigest()
    lean = api.model_info("org/tiny-GGUF", revision="main", expand=["sha", "cardData", "gated"])
    assert lean.sha == sha and lean.card_data.license == "apache-2.0" and lean.siblings is None
    hub.page_size = 3
    tree = {f.path: f for f in api.list_repo_tree("org/tiny-GGUF", recursive=True, revision=sha)}
    assert {*FILES, "big"} == set(tree), tree
    assert tree["tiny-Q8_0.gguf"].lfs.sha256 == hashlib.sha256(BODY * 2).hexdigest()
    assert tree["template"].lfs is None and tree["template"].blob_id == hub_stub.git_blob(FILES["template"])
    assert sum("/tree/" in row[2] for row in hub.log) == 3
    flat = {f.path for f in api.list_repo_tree("org/tiny-GGUF")}
    assert flat == {"big", *(p for p in FILES if "/" not in p)}, flat
    for path, data in FILES.items():
        got = hf_hub_download("org/tiny-GGUF", path, endpoint=hub.url, cache_dir=folder / "one")
        assert pathlib.Path(got).read_bytes() == data, path
        assert f"/snapshots/{sha}/" in got
    got = pathlib.Path(snapshot_download("org/tiny-GGUF", endpoint=hub.url, cache_dir=folder / "all"))
    assert {p: (got / p).read_bytes() for p in FILES} == FILES
    refused(errors.RepositoryNotFoundError, lambda: api.model_info("org/none"))
    refused(errors.RepositoryNotFoundError, lambda: api.model_info("org/none", token="hf_known"))
    refused(errors.RevisionNotFoundError, lambda: api.model_info("org/tiny-GGUF", revision="v9"))
    refused(errors.EntryNotFoundError, lambda: hf_hub_download("org/tiny-GGUF", "x", endpoint=hub.url, cache_dir=folder / "x"))


def check_closed(hub, folder):
    api = HfApi(endpoint=hub.url)
    assert api.model_info("org/gated").gated == "auto"

    def fetch(token):
        return hf_hub_download("org/gated", "m.gguf", endpoint=hub.url, cache_dir=folder / f"g{token}", token=token)

    refused(errors.GatedRepoError, lambda: fetch(False))
    refused(errors.GatedRepoError, lambda: fetch("hf_known"))
    assert pathlib.Path(fetch("hf_let_in")).read_bytes() == BODY
    refused(errors.RepositoryNotFoundError, lambda: api.model_info("org/private"))
    refused(errors.RepositoryNotFoundError, lambda: api.model_info("org/private", token="hf_known"))
    assert api.model_info("org/private", token="hf_let_in").private


def main():
    repos = [hub_stub.Repo("org/tiny-GGUF", FILES, card={"license": "apache-2.0"}),
             hub_stub.Repo("org/gated", {"m.gguf": BODY}, gated="auto"),
             hub_stub.Repo("org/private", {"m.gguf": BODY}, private=True)]
    tokens = {"hf_known": [], "hf_let_in": ["org/gated", "org/private"]}
    with PLACE as folder, hub_stub.Hub(CA.issue("hub", ips=["127.0.0.1"]), repos, tokens) as hub:
        folder = pathlib.Path(folder)
        check(hub, folder)
        check_closed(hub, folder)
        assert not hub.leaks
        print(f"huggingface_hub took {len(hub.log)} answers of the stub")


if __name__ == "__main__":
    main()
