"""Starts the runs that signed messages ask for: each message once, over all workers, however often it comes.

The id of a run follows from the message's, so the journal takes the first delivery and finds it at every other. Who
cannot sign learns nothing: not why, and not by the time it takes which hooks there are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from remit.core import ids
from remit.core.errors import RemitError
from remit.core.webhooks import SECRET_BYTES_MIN, SECRET_PREFIX, secret_key, verify
from remit.governance.hooks import body_of, task_of
from remit.governance.remit import Remit
from remit.ports.journal import Journal
from remit.ports.services import Clock
from remit.runtime import intake

_MESSAGE_ID_MAX = 256


def hook_secrets(remit: Remit, environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The secrets of each hook of a remit: two, apart by a space, while one takes the other's place.

    Raises: RemitError `usage.invalid`, in which no secret stands.
    """
    secrets: dict[str, tuple[str, ...]] = {}
    owners: dict[bytes, str] = {}
    for hook in remit.webhooks:
        secrets[hook.name] = tuple(environment.get(hook.secret_env, "").split())
        if not secrets[hook.name]:
            remedy = f"set {hook.secret_env} to whsec_BASE64"
            raise RemitError("usage.invalid", f"the webhook {hook.name} has no secret", remedy=remedy)
        for secret in secrets[hook.name]:
            owner = owners.setdefault(secret_key(secret), hook.name)
            if owner != hook.name:
                # a signature does not cover the hook, so what was signed for one could be sent to the other
                message = f"the webhooks {owner} and {hook.name} have the same secret"
                raise RemitError("usage.invalid", message, remedy="give each a secret of its own")
    return secrets


class Hooks:
    """Takes messages for the webhooks of one agent, in the name of a tenant."""

    def __init__(
        self,
        journal: Journal,
        remit: Remit,
        clock: Clock,
        tenant: str,
        secrets: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._journal = journal
        self._remit = remit
        self._clock = clock
        self._tenant = tenant
        self._secrets = secrets
        self._hooks = {hook.name: hook for hook in remit.webhooks}
        stand_in = base64.b64encode(clock.entropy(SECRET_BYTES_MIN)).decode()
        self._nobodys = (SECRET_PREFIX + stand_in,)

    async def deliver(self, name: str, headers: Mapping[str, str], body: bytes) -> str:
        """The id of the run that a message has started, now or when it came first.

        Raises: RemitError `webhook.invalid`, `webhook.unknown`, `value.invalid`, `value.too_large`, `queue.full`,
        `journal.unavailable`.
        """
        hook = self._hooks.get(name)
        now_s = self._clock.now_us() // 1_000_000
        try:
            message_id = verify(self._secrets.get(name, self._nobodys), headers, body, now_s=now_s)
        except RemitError:
            if hook is None:
                raise RemitError("webhook.unknown", "there is no such webhook") from None
            raise
        if hook is None or len(message_id) > _MESSAGE_ID_MAX:
            raise RemitError("webhook.invalid", "the message's id is too long")
        run = intake.new_run(
            self._remit, task_of(hook, body_of(body)), hook.principal(self._tenant), self._clock
        )
        source = f"{self._tenant}/{self._remit.agent}/{name}/{message_id}"
        run = intake.known_as(run, ids.derived(source))
        await intake.enqueue(self._journal, self._remit, run, urgency=hook.urgency)
        return run.id
