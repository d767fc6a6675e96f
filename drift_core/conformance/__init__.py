"""The conformance kit: suites that a plugin's author runs, reference drivers, mutants, and a fault proxy.

Needs the extra ``drift-core[conformance]``. Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drift_core.conformance.faults import Fault, FaultProxy
    from drift_core.conformance.lending import access_by, open_records, services
    from drift_core.conformance.reference.auditor import MemoryAuditor
    from drift_core.conformance.reference.authenticator import MemoryAuthenticator, MemoryIssuer
    from drift_core.conformance.reference.authorizer import MemoryAuthorizer, PolicyRule
    from drift_core.conformance.reference.collector import MemoryCollector, MemoryContents, open_memory_collector
    from drift_core.conformance.reference.optimizer import GzipOptimizer
    from drift_core.conformance.reference.signing import HmacSigning
    from drift_core.conformance.reference.storage import MemoryPlace, open_memory_store
    from drift_core.conformance.reference.transport import open_asyncio_transport
    from drift_core.conformance.rules import Suite, power
    from drift_core.conformance.suites.authenticator import AuthenticatorSuite
    from drift_core.conformance.suites.authorizer import AuthorizerSuite
    from drift_core.conformance.suites.collector import CollectorSuite
    from drift_core.conformance.suites.optimizer import OptimizerSuite
    from drift_core.conformance.suites.plugin import ModuleSuite, PluginSuite
    from drift_core.conformance.suites.signing import SigningSuite
    from drift_core.conformance.suites.storage import StorageSuite
    from drift_core.conformance.suites.transport import TransportSuite
    from drift_core.trail import Trail

_HOMES = {
    "AuthenticatorSuite": ".suites.authenticator",
    "AuthorizerSuite": ".suites.authorizer",
    "CollectorSuite": ".suites.collector",
    "Fault": ".faults",
    "FaultProxy": ".faults",
    "GzipOptimizer": ".reference.optimizer",
    "HmacSigning": ".reference.signing",
    "MemoryAuditor": ".reference.auditor",
    "MemoryAuthenticator": ".reference.authenticator",
    "MemoryAuthorizer": ".reference.authorizer",
    "MemoryCollector": ".reference.collector",
    "MemoryContents": ".reference.collector",
    "MemoryIssuer": ".reference.authenticator",
    "MemoryPlace": ".reference.storage",
    "ModuleSuite": ".suites.plugin",
    "OptimizerSuite": ".suites.optimizer",
    "PluginSuite": ".suites.plugin",
    "PolicyRule": ".reference.authorizer",
    "SigningSuite": ".suites.signing",
    "StorageSuite": ".suites.storage",
    "Suite": ".rules",
    "TransportSuite": ".suites.transport",
    "Trail": "drift_core.trail",
    "access_by": ".lending",
    "open_asyncio_transport": ".reference.transport",
    "open_memory_collector": ".reference.collector",
    "open_memory_store": ".reference.storage",
    "power": ".rules",
    "open_records": ".lending",
    "services": ".lending",
}
"""The module of each name; an import of the package alone, as pytest's plugin makes it, imports none."""

__all__ = [
    "AuthenticatorSuite",
    "AuthorizerSuite",
    "CollectorSuite",
    "Fault",
    "FaultProxy",
    "GzipOptimizer",
    "HmacSigning",
    "MemoryAuditor",
    "MemoryAuthenticator",
    "MemoryAuthorizer",
    "MemoryCollector",
    "MemoryContents",
    "MemoryIssuer",
    "MemoryPlace",
    "ModuleSuite",
    "OptimizerSuite",
    "PluginSuite",
    "PolicyRule",
    "SigningSuite",
    "StorageSuite",
    "Suite",
    "Trail",
    "TransportSuite",
    "access_by",
    "open_asyncio_transport",
    "open_memory_collector",
    "open_memory_store",
    "open_records",
    "power",
    "services",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_HOMES[name], __name__), name)
