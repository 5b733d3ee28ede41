#!/usr/bin/env python3
"""A full disk, a real one (a tmpfs in a mount namespace of the test's own; exit 77 where that is not
allowed): every error says so, nothing half done is left, and models can be listed and removed with
0 bytes free. A pull that found no room goes on when there is some, and fetches nothing twice.

  full_test.py WORKER [ROUNDS]
"""
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from check_store import Store
from small_registry import SmallRegistry

MOUNTED = "HEARTH_TEST_OWN_MOUNTS"


def own_mounts():
    if os.environ.get(MOUNTED):
        return
    for how in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            if subprocess.run([*how, "true"], capture_output=True).returncode == 0:
                os.environ[MOUNTED] = "1"
                os.execvp("unshare", [*how, sys.executable, *sys.argv])
        except FileNotFoundError:
            break
    print("skipped: no mount namespace of our own here")
    sys.exit(77)


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096):
                pass
        except OSError:
            pass


def answer(worker, home, *op):
    r = subprocess.run([worker, home, "do", "0", *op], capture_output=True, text=True)
    said = [line for line in r.stdout.splitlines() if line.startswith("<")]
    if said and said[0].split()[1] == "ok":
        return "ok"
    return said[0][2:].strip() if said else f"open: {r.stderr.strip()}"


def check(home, faults, what, unopened=False):
    s = Store(home, unopened)
    faults += [f"{what}: {f}" for f in s.check()]
    models = s.models()
    s.close()
    return models


def any_op(rng, name, source, names, registry):
    kind = rng.choice(["import", "import", "pull", "blob", "text"])
    if kind == "text" and not names:
        kind = "import"
    return {"import": lambda: ["import", name, rng.choice(["copy", "copy", "reference"]), source],
            "pull": lambda: ["pull", name, registry.name(rng.choice(list(registry.models)))],
            "blob": lambda: ["blob", name, source, "T1"],
            "text": lambda: ["text", name, rng.choice(names), f"T{rng.random()}", "S1"]}[kind]()


def pull_goes_on(worker, home, disk, rng, registry, faults):
    """A pull for which there is no more room after some of it; and with room it fetches the rest."""
    what = rng.choice(list(registry.models))
    for f in disk.glob("fill*"):
        f.unlink()
    said = answer(worker, home, "pull", "p", registry.name("other"))  # whatever there is room for
    if said == "ok":
        answer(worker, home, "rm", "p")
    leave(disk / "fill-most", rng.randrange(1, 900_000))
    said = answer(worker, home, "pull", "p", registry.name(what))
    check(home, faults, "a pull without room")
    (disk / "fill-most").unlink(missing_ok=True)
    there = {d: registry.verified(home / "tmp", d) for d in registry.files(what)}
    registry.served.clear()
    if said == "ok":
        return
    if "full" not in said and "No space left" not in said:
        faults.append(f"a pull on a full disk says '{said}'")
    said = answer(worker, home, "pull", "p", registry.name(what))
    twice = sum(registry.served.get(d, 0) + n - len(registry.blobs[d]) for d, n in there.items())
    if said != "ok" or twice > 0:
        faults.append(f"with room again the pull says '{said}', and fetched {twice} bytes twice")
    check(home, faults, "a pull with room again")


def leave(path, free):
    """Fills the disk but for so many bytes."""
    st = os.statvfs(path.parent)
    with open(path, "wb", buffering=0) as f:
        os.posix_fallocate(f.fileno(), 0, max(1, st.f_bavail * st.f_frsize - free))


def one_round(worker, where, disk, rng, faults, registry):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={rng.randrange(3000, 9000)}k", "tmpfs", disk], check=True)
    home, names, refused = disk / "home", [], 0
    try:
        while refused < 3:
            if rng.random() < 0.06:
                fill(disk / f"fill{refused}")
            source = where / f"source{rng.randrange(6)}"
            name = f"m{rng.randrange(1000)}"
            said = answer(worker, home, *any_op(rng, name, source, names, registry))
            if said == "ok":
                names.append(name)
                continue
            refused += 1
            if "No space left" not in said and "full" not in said:
                faults.append(f"a full disk is called '{said}'")
        fill(disk / "fill-last")
        models = check(home, faults, "full", True)  # what cannot be forgotten for want of room may stay in the trash
        if len(models) != len(set(names)):
            faults.append(f"{len(models)} models are listed of {len(set(names))}")
        for name in sorted(set(names)):
            said = answer(worker, home, "rm", name)
            if said != "ok":
                faults.append(f"rm {name} on a full disk: {said}")
        if check(home, faults, "emptied") or os.listdir(home / "blobs"):
            faults.append("not everything was removed")
        pull_goes_on(worker, home, disk, rng, registry, faults)
        return len(names)
    finally:
        subprocess.run(["umount", disk], check=True)


def prune_without_room(worker, where, disk, faults):
    """With whatever little is free: what was removed while it was in use is pruned."""
    for free in range(0, 160_000, 9_000):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3000k", "tmpfs", disk], check=True)
        try:
            for name in "ab":
                answer(worker, disk / "home", "import", name, "copy", where / f"source{ord(name) % 6}")
            leave(disk / "fill", free)
            said = [answer(worker, disk / "home", "prune", "1", name) for name in "ab"]
            models = check(disk / "home", faults, f"pruned with {free} bytes free")
            if said != ["ok", "ok"] or models or os.listdir(disk / "home" / "blobs"):
                faults.append(f"prune with {free} bytes free says {said}")
        finally:
            subprocess.run(["umount", disk], check=True)


def mounted_apart(worker, where, faults):
    """A mount on blobs/ or tmp/, even of the same file system, is told when the home is opened."""
    home = where / "apart"
    answer(worker, home, "import", "a", "copy", where / "source0")
    for name in ("blobs", "tmp"):
        (where / name).mkdir()
        for how in (["--bind", where / name], ["-t", "tmpfs", "none"]):
            subprocess.run(["mount", *how, home / name], check=True)
            said = answer(worker, home, "import", "b", "copy", where / "source1")
            subprocess.run(["umount", home / name], check=True)
            if "different mounts" not in said or "whole home" not in said:
                faults.append(f"{name}/ is a mount: {said}")
    if (said := answer(worker, home, "import", "b", "copy", where / "source1")) != "ok":
        faults.append(f"no mount any more: {said}")
    if len(check(home, faults, "mounted apart")) != 2:
        faults.append("a model was lost by a mount")


def main():
    own_mounts()
    worker, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    rng, faults, models = random.Random(5), [], 0
    registry = SmallRegistry((300_001, 1_150_000, 70_000))
    with tempfile.TemporaryDirectory() as where:
        where = pathlib.Path(where)
        disk = where / "disk"
        disk.mkdir()
        for i in range(6):
            (where / f"source{i}").write_bytes(rng.randbytes(rng.randrange(1, 900_000)))
        for _ in range(rounds):
            models += one_round(worker, where, disk, rng, faults, registry)
        prune_without_room(worker, where, disk, faults)
        mounted_apart(worker, where, faults)
    for f in faults:
        print("FAULT", f)
    print(f"{rounds} disks filled, {models} models imported before and removed after, {len(faults)} faults")
    return 1 if faults or not models else 0


if __name__ == "__main__":
    sys.exit(main())
