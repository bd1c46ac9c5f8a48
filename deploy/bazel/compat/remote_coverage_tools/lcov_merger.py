#!/usr/bin/env python3
"""Offline stand-in for Bazel's CoverageOutputGenerator: gcov JSON (.gcov.json.gz) and lcov .dat -> one lcov file."""
import argparse
import collections
import gzip
import json
import os
import re


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--coverage_dir", required=True)
    p.add_argument("--output_file", required=True)
    p.add_argument("--filter_sources", action="append", default=[])
    p.add_argument("--source_file_manifest")
    p.add_argument("--sources_to_replace_file")
    a, _ = p.parse_known_args()
    filters = [re.compile(f) for f in a.filter_sources]
    allowed = None
    if a.source_file_manifest and os.path.exists(a.source_file_manifest):
        with open(a.source_file_manifest) as f:
            allowed = {l.strip() for l in f if l.strip() and not l.strip().endswith(".gcno")}
    lines = collections.defaultdict(lambda: collections.defaultdict(int))
    funcs = collections.defaultdict(dict)

    def wanted(path):
        if any(f.fullmatch(path) for f in filters):
            return False
        return not allowed or path in allowed

    def strip(path):
        return re.sub(r"^/proc/self/cwd/", "", path)

    for root, _, names in os.walk(a.coverage_dir):
        for name in names:
            full = os.path.join(root, name)
            if name.endswith(".gcov.json.gz"):
                with gzip.open(full, "rt") as f:
                    doc = json.load(f)
                for fil in doc["files"]:
                    path = strip(fil["file"])
                    if not wanted(path):
                        continue
                    for l in fil["lines"]:
                        lines[path][l["line_number"]] += l["count"]
                    for fn in fil["functions"]:
                        key = fn["name"]
                        line, count = funcs[path].get(key, (fn["start_line"], 0))
                        funcs[path][key] = (line, count + fn["execution_count"])
            elif name.endswith(".dat") and os.path.abspath(full) != os.path.abspath(a.output_file):
                path = None
                with open(full, errors="replace") as f:
                    for row in f:
                        row = row.rstrip("\n")
                        if row.startswith("SF:"):
                            path = strip(row[3:])
                        elif row.startswith("DA:") and path and wanted(path):
                            n, c = row[3:].split(",")[:2]
                            lines[path][int(n)] += int(c)
    with open(a.output_file, "w") as out:
        for path in sorted(lines):
            out.write("SF:%s\n" % path)
            for fn, (line, count) in sorted(funcs[path].items()):
                out.write("FN:%d,%s\nFNDA:%d,%s\n" % (line, fn, count, fn))
            out.write("FNF:%d\nFNH:%d\n" % (len(funcs[path]), sum(1 for _, c in funcs[path].values() if c)))
            for n in sorted(lines[path]):
                out.write("DA:%d,%d\n" % (n, lines[path][n]))
            out.write("LH:%d\nLF:%d\nend_of_record\n" % (sum(1 for c in lines[path].values() if c), len(lines[path])))


main()
