//! Kernels that execute a plan.
