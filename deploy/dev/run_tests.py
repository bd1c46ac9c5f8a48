#!/usr/bin/env python3
"""Runs Drover's tests tier by tier and counts every test case; the last line is `N passed, N failed, N skipped`.

usage: run_tests.py [TIER...]           tiers: unit, kvm, machine-x86
       run_tests.py --sanitizers        unit and kvm under ASan and UBSan, then, where there is no gRPC, under TSan
"""
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

# tier: (bazel's tag filter, how many tests may run at once)
TIERS = {
    "unit": ("-kvm,-machine-x86,-bench", 2),
    "kvm": ("kvm", 1),
    "machine-x86": ("machine-x86", 1),
}
SANITIZERS = [("asan", "unit"), ("asan", "kvm"), ("tsan", "unit"), ("tsan", "kvm")]
# gRPC is built on absl::Mutex, and the distribution's build of that is invisible to TSan: it sees races everywhere.
BLIND_SPOTS = {"tsan": "rdeps(//..., @system_libs//:grpc++)"}
CACHE = os.environ.get("DROVER_CACHE", os.path.expanduser("~/.cache/drover"))


class Totals:
    """What was counted so far; skips and failures by name."""

    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []


def bazel(*args, **kwargs):
    return subprocess.run(["bazel", *args], stdin=subprocess.DEVNULL, **kwargs)


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def targets(tag_filter, but=None):
    """The labels of the tests that the filter selects, from bazel query; none that the query `but` finds."""
    include = [t for t in tag_filter.split(",") if not t.startswith("-")]
    exclude = [t[1:] for t in tag_filter.split(",") if t.startswith("-")] + ["manual"]
    query = "tests(//...)"
    for tag in include:
        query = f'attr(tags, "\\b{tag}\\b", {query})'
    for tag in exclude:
        query = f'{query} except attr(tags, "\\b{tag}\\b", tests(//...))'
    if but:
        query = f"{query} except {but}"
    done = bazel("query", query, "--noshow_progress", "--ui_event_filters=-info", capture_output=True, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        sys.exit("bazel query failed")
    return sorted(line for line in done.stdout.split() if line.startswith("//"))


def run_tier(name, config, totals):
    tag_filter, jobs = TIERS[name]
    if config:
        tag_filter += f",-no-{config}"  # beside each such tag stands its reason
    labels = targets(tag_filter, BLIND_SPOTS.get(config))
    title = f"{name} under {config}" if config else name
    say(f"{title}: {len(labels)} test targets")
    if not labels:
        return
    command = ["test", f"--disk_cache={CACHE}/bazel", "--keep_going", "--build_tests_only", f"--local_test_jobs={jobs}"]
    if name != "unit":
        command.append("--nocache_test_results")  # they depend on the host, which Bazel does not see
    if config:
        command.append(f"--config={config}")
    code = bazel(*command, *labels, stdout=sys.stderr).returncode
    logs = logs_directory(config)
    counted = [count_target(label, logs, title, totals) for label in labels]
    if code not in (0, 3) or (code == 3 and not totals.failed) or not all(counted):
        missing = [label for label, ok in zip(labels, counted) if not ok]
        for label in missing:
            totals.failed.append(f"{title} {label}: was not built or did not run")
        if not missing and not totals.failed:
            totals.failed.append(f"{title}: bazel ended with {code}")


def logs_directory(config):
    command = ["info", "bazel-testlogs", "--noshow_progress", "--ui_event_filters=-info"]
    if config:
        command.append(f"--config={config}")
    return bazel(*command, capture_output=True, text=True).stdout.strip()


def count_target(label, logs, title, totals):
    """Counts the cases of one target from its test.xml; False when it left none from this run."""
    folder = os.path.join(logs, label[2:].replace(":", "/"))
    try:
        root = ElementTree.parse(os.path.join(folder, "test.xml")).getroot()
        with open(os.path.join(folder, "test.log"), errors="replace") as file:
            log = file.read()
    except (OSError, ElementTree.ParseError):
        return False
    cases = list(root.iter("testcase"))
    if any("result" in case.attrib for case in cases):
        count_gtest(label, cases, log, title, totals)
    else:
        count_script(label, cases, log, title, totals)
    return True


def count_gtest(label, cases, log, title, totals):
    for case in cases:
        name = f"{title} {label} {case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            totals.failed.append(name)
        elif skipped is not None or case.get("result") == "skipped":
            totals.skipped.append((name, skip_reason(skipped, log)))
        elif case.get("status") == "notrun":
            totals.skipped.append((name, "disabled"))
        else:
            totals.passed += 1


def skip_reason(element, log):
    if element is not None and element.get("message"):
        return element.get("message").strip().split("\n")[-1]
    match = re.search(r": Skipped\n(.+)", log)
    return match.group(1).strip() if match else "no reason given"


def count_script(label, cases, log, title, totals):
    """A test without gtest is one case; a line `SKIPPED: reason` says that it could not run."""
    failed = any(case.find("error") is not None or case.find("failure") is not None for case in cases)
    skips = re.findall(r"^SKIPPED: (.+)$", log, re.M)
    if failed:
        totals.failed.append(f"{title} {label}")
    elif skips:
        totals.skipped.append((f"{title} {label}", skips[0]))
    else:
        totals.passed += 1


def report(totals):
    for name, reason in totals.skipped:
        print(f"SKIPPED {name}: {reason}")
    for name in totals.failed:
        print(f"FAILED {name}")
    print(f"{totals.passed} passed, {len(totals.failed)} failed, {len(totals.skipped)} skipped", flush=True)
    sys.exit(1 if totals.failed or totals.passed == 0 else 0)


def main():
    args = sys.argv[1:]
    if args == ["--sanitizers"]:
        runs = [(tier, config) for config, tier in SANITIZERS]
    else:
        unknown = [tier for tier in args if tier not in TIERS]
        if unknown:
            sys.exit(f"run_tests: no tier {unknown[0]!r}; there are: {', '.join(TIERS)}")
        runs = [(tier, None) for tier in args or TIERS]
    os.makedirs("/tmp/drover-tests", exist_ok=True)
    totals = Totals()
    for tier, config in runs:
        run_tier(tier, config, totals)
    report(totals)


main()
