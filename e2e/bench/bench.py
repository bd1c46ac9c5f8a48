#!/usr/bin/env python3
"""bench.py [PATTERN] [--json FILE]: measures, and prints one table of figures.

Each program of this folder prints one JSON object a figure: name, value, unit, baseline, baseline_name, ratio, goal,
goal_is_ratio, met, samples. PATTERN is a part of a program's or a figure's name.
"""
import argparse
import glob
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILT = os.path.join(ROOT, "bazel-bin")


def figures_of(program):
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True, env={**os.environ, "DROVER_ROOT": BUILT})
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return rows, done.returncode


def show(value):
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def goal_text(row):
    if row["goal"] is None:
        return "-"
    return f"ratio <= {show(row['goal'])}" if row["goal_is_ratio"] else f"<= {show(row['goal'])}"


def print_table(rows):
    table = [("figure", "value", "unit", "baseline", "ratio", "goal", "met", "against")]
    for row in rows:
        met = {True: "yes", False: "NO", None: "-"}[row["met"]]
        table.append((row["name"], show(row["value"]), row["unit"], show(row["baseline"]), show(row["ratio"]),
                      goal_text(row), met, row["baseline_name"] or "-"))
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    programs = sorted(p for p in glob.glob(os.path.join(BUILT, "e2e/bench/*_bench")) if os.access(p, os.X_OK))
    named = [p for p in programs if args.pattern in os.path.basename(p)]
    rows, failed = [], []
    for program in named or programs:
        print(f"==> {os.path.basename(program)}", file=sys.stderr, flush=True)
        found, code = figures_of(program)
        rows += [row for row in found if named or args.pattern in row["name"]]
        if code != 0:
            failed.append(os.path.basename(program))
    print_table(rows)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)
    if failed:
        sys.exit(f"bench: failed: {', '.join(failed)}")


main()
