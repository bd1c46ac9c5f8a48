"""A fuzz target: its corpus runs as an ordinary test; under --config=fuzz it is a libFuzzer program."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_test")

def cc_fuzz_test(name, srcs, deps, corpus, **kwargs):
    """Declares NAME, a test that feeds every corpus file, its mutations and prefixes to LLVMFuzzerTestOneInput.

    Args:
      name: the test's name; NAME_fuzzer is the libFuzzer program (build it with --config=fuzz).
      srcs: sources that define LLVMFuzzerTestOneInput.
      deps: as for cc_test.
      corpus: the seed files.
      **kwargs: passed to cc_test.
    """
    cc_test(
        name = name,
        size = "small",
        srcs = srcs,
        data = corpus,
        args = ["$(locations %s)" % c for c in corpus] if corpus else [],
        deps = deps + ["//deploy/bazel:fuzz_replay"],
        **kwargs
    )
    cc_binary(
        name = name + "er",
        testonly = True,
        srcs = srcs,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = deps,
    )
