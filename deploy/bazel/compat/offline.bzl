"""Stand-ins for the archives that Bazel 4.2 would download for itself; newer Bazels bring their own."""

def _impl(rctx):
    src = rctx.path(Label("//deploy/bazel/compat:" + rctx.attr.marker)).dirname
    for child in src.readdir():
        rctx.symlink(child, child.basename)

_bundled = repository_rule(
    implementation = _impl,
    attrs = {"marker": attr.string(mandatory = True)},
    local = True,
)

def offline_compat():
    """Call this first in WORKSPACE."""
    version = getattr(native, "bazel_version", "")
    if version and not version.startswith("4."):
        return
    for name in ["rules_cc", "rules_java", "remote_coverage_tools"]:
        _bundled(name = name, marker = name + "/WORKSPACE")
