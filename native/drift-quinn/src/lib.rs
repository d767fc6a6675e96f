//! quinn's state machine of QUIC for Python: datagrams in, events and datagrams out, and no socket of its own.
//!
//! `drift_quic_aioquic.quinn_session` is who calls it. Times are seconds of Python's `time.monotonic`.

mod congestion;
mod connection;
mod engine;
mod keys;

use pyo3::prelude::*;

#[pymodule]
fn drift_quinn(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<engine::Engine>()?;
    module.add_class::<connection::Connection>()
}
