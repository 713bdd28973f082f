// The Python module tacit.ring._native, with what the other files add to it.
#include "module.hpp"

namespace tacit {
namespace {

std::vector<void (*)(nb::module_&)>& added() {
    static std::vector<void (*)(nb::module_&)> all;
    return all;
}

}  // namespace

Adds::Adds(void (*define)(nb::module_&)) { added().push_back(define); }

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // a key stream may live until the interpreter ends
    for (const auto define : added()) define(m);
}

}  // namespace tacit
