"""Exposes the distribution's C++ libraries as @system_libs//:<name>.

Headers live under /usr/include, which the C++ toolchain already searches, so each target carries link options only.
Bare -l names keep the targets usable by a cross toolchain, which supplies its own --sysroot and -L.
"""

# name: (pkg-config modules to check, Debian package, link flags, other targets)
_LIBS = {
    "protobuf": (["protobuf"], "libprotobuf-dev", ["-lprotobuf", "-pthread"], []),
    "protobuf_lite": (["protobuf-lite"], "libprotobuf-dev", ["-lprotobuf-lite", "-pthread"], []),
    "grpc++": (["grpc++"], "libgrpc++-dev", ["-lgrpc++", "-lgrpc", "-lgpr"], ["protobuf", "absl"]),
    "grpc++_reflection": (["grpc++"], "libgrpc++-dev", ["-lgrpc++_reflection"], ["grpc++"]),
    "grpcpp_channelz": (["grpc++"], "libgrpc++-dev", ["-lgrpcpp_channelz"], ["grpc++"]),
    "prometheus_core": (["prometheus-cpp-core"], "prometheus-cpp-dev", ["-lprometheus-cpp-core"], []),
    "prometheus_pull": (["prometheus-cpp-pull"], "prometheus-cpp-dev", ["-lprometheus-cpp-pull"], ["prometheus_core"]),
    "gtest": (["gtest"], "libgmock-dev", ["-lgtest", "-pthread"], []),
    "gmock": (["gmock"], "libgmock-dev", ["-lgmock"], ["gtest"]),
    "gmock_main": (["gmock_main"], "libgmock-dev", ["-lgmock_main"], ["gmock"]),
    "seccomp": (["libseccomp"], "libseccomp-dev", ["-lseccomp"], []),
    "sqlite3": (["sqlite3"], "libsqlite3-dev", ["-lsqlite3", "-pthread", "-ldl", "-lm"], []),
    "nlohmann_json": (["nlohmann_json"], "nlohmann-json3-dev", [], []),
    "benchmark": (["benchmark"], "libbenchmark-dev", ["-lbenchmark", "-pthread"], []),
}

# Abseil: the roots a user names; pkg-config --static gives the closure in link order.
_ABSL_ROOTS = [
    "absl_status",
    "absl_statusor",
    "absl_strings",
    "absl_str_format",
    "absl_synchronization",
    "absl_time",
    "absl_cord",
    "absl_flat_hash_map",
    "absl_flat_hash_set",
    "absl_flags",
    "absl_flags_parse",
    "absl_flags_usage",
    "absl_failure_signal_handler",
    "absl_symbolize",
    "absl_random_random",
    "absl_cleanup",
]

def _pkg_config(rctx, tool, args, what, deb):
    res = rctx.execute([tool] + args)
    if res.return_code:
        fail("system_libs: %s not found by pkg-config; install it: apt-get install %s\n%s" % (what, deb, res.stderr))
    return res.stdout.strip()

def _dedup_keep_last(items):
    out = []
    seen = {}
    for i in reversed(items):
        if i not in seen:
            seen[i] = True
            out.append(i)
    return list(reversed(out))

def _cc(name, linkopts, deps):
    return "cc_library(\n    name = %r,\n    linkopts = %r,\n    deps = %r,\n)\n" % (
        name,
        linkopts,
        [":" + d for d in deps],
    )

def _impl(rctx):
    tool = rctx.which("pkg-config")
    if not tool:
        fail("system_libs: pkg-config not found; apt-get install pkg-config")
    out = ['package(default_visibility = ["//visibility:public"])\n']
    for name, (mods, deb, linkopts, deps) in _LIBS.items():
        _pkg_config(rctx, tool, ["--exists", "--print-errors"] + mods, name, deb)
        out.append(_cc(name, linkopts, deps))
    flags = []
    for root in _ABSL_ROOTS:
        flags += _pkg_config(rctx, tool, ["--static", "--libs-only-l", root], root, "libabsl-dev").split(" ")
    flags = _dedup_keep_last([f for f in flags if f.startswith("-labsl_")])

    # --start-group: the closures of several roots are merged, so no single order is right for static archives.
    out.append(_cc("absl", ["-Wl,--push-state,--as-needed", "-Wl,--start-group"] + flags +
                           ["-Wl,--end-group", "-Wl,--pop-state", "-pthread"], []))
    for tool_name, deb in [("protoc", "protobuf-compiler"), ("grpc_cpp_plugin", "protobuf-compiler-grpc")]:
        path = rctx.which(tool_name)
        if not path:
            fail("system_libs: %s not found; apt-get install %s" % (tool_name, deb))
        rctx.symlink(path, "bin/" + tool_name)
    out.append('exports_files(["bin/protoc", "bin/grpc_cpp_plugin"])\n')
    rctx.file("BUILD.bazel", "\n".join(out))

system_libs = repository_rule(
    implementation = _impl,
    environ = ["PKG_CONFIG_PATH", "PATH"],
    local = True,
)
