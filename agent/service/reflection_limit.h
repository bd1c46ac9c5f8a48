#ifndef DROVER_AGENT_SERVICE_REFLECTION_LIMIT_H_
#define DROVER_AGENT_SERVICE_REFLECTION_LIMIT_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>

namespace drover {

// Makes an interceptor that cancels calls of grpc.reflection beyond `most` at a time: such a stream
// occupies a thread of the server's for as long as its client likes, and all other calls need
// threads, too.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> LimitReflection(int most);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_REFLECTION_LIMIT_H_
