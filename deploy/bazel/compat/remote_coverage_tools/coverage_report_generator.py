#!/usr/bin/env python3
"""Offline stand-in: merges the tests' lcov files named in --reports_file into --output_file (--combined_report=lcov)."""
import argparse
import collections
import os


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--reports_file", required=True)
    p.add_argument("--output_file", required=True)
    a, _ = p.parse_known_args()
    lines = collections.defaultdict(lambda: collections.defaultdict(int))
    with open(a.reports_file) as f:
        reports = [l.strip() for l in f if l.strip()]
    for report in reports:
        if not report.endswith(".dat") or not os.path.exists(report):
            continue
        path = None
        with open(report) as f:
            for row in f:
                row = row.rstrip("\n")
                if row.startswith("SF:"):
                    path = row[3:]
                elif row.startswith("DA:"):
                    n, c = row[3:].split(",")[:2]
                    lines[path][int(n)] += int(c)
    with open(a.output_file, "w") as out:
        for path in sorted(lines):
            out.write("SF:%s\n" % path)
            for n in sorted(lines[path]):
                out.write("DA:%d,%d\n" % (n, lines[path][n]))
            out.write("LH:%d\nLF:%d\nend_of_record\n" % (sum(1 for c in lines[path].values() if c), len(lines[path])))


main()
