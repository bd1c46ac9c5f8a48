#!/usr/bin/env python3
"""Runs clang-tidy (./.clang-tidy), with clang's warnings and its thread-safety analysis, over C++ sources.

usage: tidy.py FILE...     from the root of the tree; the generated headers must be in bazel-bin

A source that was clean (in ~/.cache/drover/tidy) is not looked at again until it, something it includes, the checks or the compiler change.
"""
import concurrent.futures
import hashlib
import os
import pathlib
import subprocess
import sys

FLAGS = [
    "-std=c++20", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wthread-safety",
    "-I.", "-isystem", "bazel-bin",
    "-isystem", "deploy/third_party/linux_uapi/include",
    "-isystem", "deploy/third_party/linux_uapi/arch/x86/include",
    "-DVIRTIO_RING_NO_LEGACY",
]
CLEAN = pathlib.Path(os.environ.get("DROVER_CACHE", os.path.expanduser("~/.cache/drover"))) / "tidy"


def rules():
    """What a verdict depends on beside the source: the tool, the checks, the flags."""
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, check=True).stdout
    return version + pathlib.Path(".clang-tidy").read_bytes() + " ".join(FLAGS).encode()


def mark(source, base):
    """The file that says that this source was clean; None when it does not even preprocess."""
    text = subprocess.run(["clang++", *FLAGS, "-E", "-C", source], capture_output=True, check=False)
    return CLEAN / hashlib.sha256(base + text.stdout).hexdigest() if text.returncode == 0 else None


def check(source, base):
    """The diagnostics of one source, empty when it is clean."""
    clean = mark(source, base)
    if clean and clean.exists():
        return ""
    done = subprocess.run(["clang-tidy", "--quiet", source, "--", *FLAGS], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return done.stdout or done.stderr
    if clean:
        clean.touch()
    return ""


def main():
    CLEAN.mkdir(parents=True, exist_ok=True)
    base = rules()
    seen = set()
    dirty = 0
    jobs = int(os.environ.get("TIDY_JOBS", len(os.sched_getaffinity(0))))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for text in pool.map(lambda source: check(source, base), sys.argv[1:]):
            dirty += bool(text)
            if text not in seen:
                print(text, end="", flush=True)
            seen.add(text)
    print(f"clang-tidy: {dirty} of {len(sys.argv) - 1} sources with findings", file=sys.stderr)
    return 1 if dirty else 0


sys.exit(main())
