"""Programs for a jail, in which there are no libraries: static, which no sanitizer's runtime can be."""

# The features of a program that runs in a jail.
JAILED_FEATURES = select({
    "//deploy/bazel:plain": ["fully_static_link"],
    "//conditions:default": [],
})

def _sanitizer_impl(_ctx):
    return []

sanitizer_flag = rule(
    doc = "Which sanitizer the configuration builds with: none, asan, tsan or fuzz. .bazelrc sets it.",
    implementation = _sanitizer_impl,
    build_setting = config.string(flag = True),
)

_COPT = "//command_line_option:copt"
_LINKOPT = "//command_line_option:linkopt"
_SANITIZER = "//deploy/bazel:sanitizer"

# Changes nothing, and so builds nothing twice, where there are no sanitizers.
def _without_sanitizers(settings, _attr):
    return {
        _COPT: [o for o in settings[_COPT] if "sanitize" not in o],
        _LINKOPT: [o for o in settings[_LINKOPT] if "sanitize" not in o],
        _SANITIZER: "none",
    }

_transition = transition(
    implementation = _without_sanitizers,
    inputs = [_COPT, _LINKOPT],
    outputs = [_COPT, _LINKOPT, _SANITIZER],
)

def _impl(ctx):
    binary = ctx.attr.binary[0]
    program = binary.files.to_list()[0]
    path = "%s/%s" % (binary.label.package, binary.label.name)
    return [DefaultInfo(
        files = depset([program]),
        runfiles = ctx.runfiles(symlinks = {path: program}),
    )]

unsanitized = rule(
    doc = "`binary`, at its own path in the runfiles, static and without the configuration's sanitizers.",
    implementation = _impl,
    attrs = {
        "binary": attr.label(cfg = _transition, mandatory = True),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
