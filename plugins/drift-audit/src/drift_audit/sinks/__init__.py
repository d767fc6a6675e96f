"""The places to which records are sent on, each in a module of its own."""

from drift_audit.config import AuditConfig
from drift_audit.delivery import Sink
from drift_audit.sinks.elasticsearch import ElasticsearchSink
from drift_audit.sinks.file import FileSink
from drift_audit.sinks.syslog import SyslogSink
from drift_audit.sinks.webhook import WebhookSink


def sinks_of(config: AuditConfig) -> list[Sink]:
    """Returns the sinks that are configured; none has opened anything yet."""
    made: list[Sink] = []
    if config.file_export is not None:
        made.append(FileSink(config.file_export))
    if config.webhook_export is not None:
        made.append(WebhookSink(config.webhook_export))
    if config.elasticsearch_export is not None:
        made.append(ElasticsearchSink(config.elasticsearch_export))
    if config.syslog_export is not None:
        made.append(SyslogSink(config.syslog_export))
    return made
