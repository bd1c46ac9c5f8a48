"""cc_proto / cc_grpc on the system's protoc and grpc_cpp_plugin; proto paths are relative to the workspace root."""

ProtoFilesInfo = provider(fields = {"transitive": "depset of .proto files"})

def _gen_impl(ctx):
    protos = depset(ctx.files.srcs, transitive = [d[ProtoFilesInfo].transitive for d in ctx.attr.deps])
    hdrs = []
    srcs = []
    for src in ctx.files.srcs:
        rel = src.short_path[len(ctx.label.package) + 1 if ctx.label.package else 0:]
        stem = rel[:-len(".proto")]
        h = [ctx.actions.declare_file(stem + ".pb.h")]
        c = [ctx.actions.declare_file(stem + ".pb.cc")]
        args = ctx.actions.args()
        args.add("--proto_path=.")
        args.add("--cpp_out=" + ctx.bin_dir.path)
        tools = []
        if ctx.attr.grpc:
            h.append(ctx.actions.declare_file(stem + ".grpc.pb.h"))
            h.append(ctx.actions.declare_file(stem + "_mock.grpc.pb.h"))
            c.append(ctx.actions.declare_file(stem + ".grpc.pb.cc"))
            args.add("--plugin=protoc-gen-grpc=" + ctx.executable._plugin.path)
            args.add("--grpc_out=generate_mock_code=true:" + ctx.bin_dir.path)
            tools.append(ctx.executable._plugin)
        args.add(src.path)
        ctx.actions.run(
            executable = ctx.executable._protoc,
            arguments = [args],
            inputs = protos,
            tools = tools,
            outputs = h + c,
            mnemonic = "SystemProtoc",
            progress_message = "Generating C++ from %s" % src.short_path,
        )
        hdrs += h
        srcs += c
    return [
        DefaultInfo(files = depset(hdrs + srcs)),
        OutputGroupInfo(hdrs = depset(hdrs), srcs = depset(srcs)),
        ProtoFilesInfo(transitive = protos),
    ]

_gen = rule(
    implementation = _gen_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".proto"], mandatory = True),
        "deps": attr.label_list(providers = [ProtoFilesInfo]),
        "grpc": attr.bool(),
        "_protoc": attr.label(default = "@system_libs//:bin/protoc", executable = True, allow_single_file = True, cfg = "exec"),
        "_plugin": attr.label(default = "@system_libs//:bin/grpc_cpp_plugin", executable = True, allow_single_file = True, cfg = "exec"),
    },
)

def cc_proto(name, srcs, deps = [], grpc = False, lite = False, **kwargs):
    """Generates and compiles C++ for srcs.

    Args:
      name: the cc_library on the full runtime; with lite, name + "_lite" is the same code on protobuf-lite.
      srcs: .proto files of this package.
      deps: other cc_proto targets.
      grpc: also generate the service stubs and their gMock mocks.
      lite: the protos say optimize_for = LITE_RUNTIME.
      **kwargs: passed to cc_library.
    """
    _gen(
        name = name + "_gen",
        srcs = srcs,
        deps = [d + "_gen" for d in deps],
        grpc = grpc,
    )
    native.filegroup(name = name + "_hdrs", srcs = [name + "_gen"], output_group = "hdrs")
    native.filegroup(name = name + "_srcs", srcs = [name + "_gen"], output_group = "srcs")
    native.cc_library(
        name = name,
        srcs = [name + "_srcs"],
        hdrs = [name + "_hdrs"],
        copts = ["-w"],
        deps = deps + ["@system_libs//:grpc++" if grpc else "@system_libs//:protobuf"],
        **kwargs
    )
    if lite:
        native.cc_library(
            name = name + "_lite",
            srcs = [name + "_srcs"],
            hdrs = [name + "_hdrs"],
            copts = ["-w"],
            deps = [d + "_lite" for d in deps] + ["@system_libs//:protobuf_lite"],
            **kwargs
        )
