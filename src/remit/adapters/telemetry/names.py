"""Every name that telemetry shows to the outside: spans, attributes, metrics, log events.

Promise: a name is written here and nowhere else, so a change of the conventions is a change of this file.
`gen_ai.*` names are pinned to the generative-AI semantic conventions `gen-ai-dev/1.42`, which are still
in development; `remit.*` and `agent.*` names are ours and stay.
"""

from __future__ import annotations

from typing import Final

SEMCONV: Final = "gen-ai-dev/1.42"
SCOPE: Final = "remit"
SERVICE_NAME: Final = "remit"

# spans
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"
CHAT: Final = "chat"
ATTEMPT: Final = "agent.attempt"
RELEASE: Final = "release answer"
MEMORY_READ: Final = "read memory"
MEMORY_WRITE: Final = "write memory"
RETRY_EVENT: Final = "retry"

# attributes of ours
AGENT_SPAN: Final = "agent.span"
ATTEMPT_NUMBER: Final = "agent.attempt.number"
RUN_ID: Final = "remit.run.id"
RUN_STATUS: Final = "remit.run.status"
TENANT: Final = "remit.tenant"
REMIT_DIGEST: Final = "remit.digest"
ACTION_DIGEST: Final = "remit.action.digest"
STEP: Final = "remit.step"
STATE: Final = "remit.outcome"
EFFECT: Final = "remit.decision.effect"
DECISION_CODE: Final = "remit.decision.code"
RULE: Final = "remit.decision.rule"
SOURCE: Final = "remit.decision.source"
PARENT_CALL: Final = "remit.run.parent"
APPROVAL_ID: Final = "remit.approval.id"
COST_NANO_USD: Final = "remit.cost.nano_usd"
ISOLATION: Final = "remit.isolation_level"
TRUNCATED: Final = "remit.truncated"
REPLAYED: Final = "remit.replayed"
RETRY_ERROR: Final = "retry.error"
RETRY_IN_S: Final = "retry.in_s"
ANSWER: Final = "remit.answer"
ERROR_MESSAGE: Final = "error.message"
TOOL_OUTPUT: Final = "remit.tool.output"  # only where content is captured

# fields of tool calls that are shown: never personal data
RESULT_COUNT: Final = "result_count"
CUSTOMER_EXISTS: Final = "customer_exists"
TICKET_ID: Final = "ticket_id"
PRIORITY: Final = "priority"
QUERY: Final = "query"  # only where content is captured
# All of a span's extra attributes that a log line or a tree shows: what is not named here stays out.
SHOWN: Final = (RESULT_COUNT, CUSTOMER_EXISTS, TICKET_ID, PRIORITY, QUERY, ISOLATION)

# attributes of the conventions
ERROR_TYPE: Final = "error.type"
USER_ID: Final = "user.id"
OPERATION: Final = "gen_ai.operation.name"
AGENT_NAME: Final = "gen_ai.agent.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"  # cached tokens included
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"

# metrics
TASKS: Final = "agent_tasks_total"
TASK_DURATION: Final = "agent_task_duration_seconds"
COST: Final = "agent_cost_usd"  # exposed as agent_cost_usd_total
COST_SERIES: Final = "agent_cost_total_usd"  # the same number under the name that dashboards ask for
ACTIVE_RUNS: Final = "agent_active_runs"
ISOLATED_CALLS: Final = "remit_isolated_calls_total"
DECISIONS: Final = "remit_decisions_total"
ALERTS: Final = "remit_budget_alerts_total"
QUOTA_LIMIT: Final = "remit_provider_quota_limit"
QUOTA_REMAINING: Final = "remit_provider_quota_remaining"
QUOTA_RESETS: Final = "remit_provider_quota_reset_timestamp_seconds"
MESSAGES: Final = "remit_outbox_messages_total"
SPANS_DROPPED: Final = "remit_spans_dropped_total"
TELEMETRY_ERRORS: Final = "remit_telemetry_errors_total"
TOOL_OF_MODEL_CALLS: Final = "llm"
TOOL_OF_RUNS: Final = "run"
TOOL_OF_MEMORY: Final = "memory"
MODEL_OF_TOOL_COSTS: Final = "none"

# log events
LOG_TOOL_CALL: Final = "TOOL_CALL"
LOG_LLM_CALL: Final = "LLM_CALL"
LOG_RELEASE: Final = "RELEASE"
LOG_MEMORY: Final = "MEMORY"
LOG_BLOCKED: Final = "BLOCKED"
FIRST_TEXT: Final = "remit_time_to_first_text_seconds"

LOG_RUN_STARTED: Final = "RUN_STARTED"
LOG_RUN_SUSPENDED: Final = "RUN_SUSPENDED"
LOG_RUN_ENDED: Final = "RUN_ENDED"
LOG_RETRY: Final = "RETRY"
LOG_ALERT: Final = "ALERT"
