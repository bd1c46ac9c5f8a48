#include "agent/daemon/daemon.h"

int main(int argc, char** argv) { return drover::RunAgent(argc, argv); }
