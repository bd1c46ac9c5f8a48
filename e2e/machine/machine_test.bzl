"""A test that runs a command inside the emulated x86 machine."""

# "external": what the test needs is outside of Bazel's sight, so a pass, or a skip, is not to be remembered.
MACHINE_TAGS = [
    "cpu:2",
    "external",
    "machine-x86",
]

def machine_test(name, command, files = {}, cpus = 1, options = [], data = [], tags = [], size = "large", **kwargs):
    """Declares NAME, which passes if command ends with status 0 in the machine (see README.md).

    Args:
      name: the test's name.
      command: the list of arguments that the machine runs.
      files: label of a single file -> its path in the machine.
      cpus: of the machine; with more than one it freezes now and then (see README.md).
      options: more options of `machine.py run`, such as --memory=4096.
      data: labels of other files that options name.
      tags: beside machine-x86.
      size: of the test; its timeout should exceed the machine's own (--timeout, 300 s).
      **kwargs: passed to sh_test.
    """
    native.sh_test(
        name = name,
        size = size,
        srcs = ["//e2e/machine:machine.py"],
        args = (["run", "--skip-status=0", "--attempts=3", "--cpus=%d" % cpus] + options +
                ["--file=$(rootpath %s)=%s" % item for item in files.items()] +
                ["--"] + ["'%s'" % word for word in command]),
        data = ["//e2e/machine"] + files.keys() + data,
        tags = MACHINE_TAGS + tags,
        **kwargs
    )
