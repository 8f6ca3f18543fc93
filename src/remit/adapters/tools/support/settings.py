"""Where the support toolset finds its parts. Holds no open resource and shows no secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MAILDIR = "maildir"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportSettings:
    """Paths and the mail transport of one support toolset.

    `kb`: a folder of Markdown files. `data`: a folder with tables.yaml and CSV files. `home`: the folder
    that remit may write to; all stores lie in `home/support`. `mail`: "maildir" (to
    `home/support/outbox`) or an SMTP URL such as
    `smtp://user:password@mail.example.com:587?starttls=required`; it may hold a password and is therefore
    not shown. `sender`: the address that mail comes from.
    """

    kb: Path
    data: Path
    home: Path
    mail: str = field(default=MAILDIR, repr=False)
    sender: str = "support@example.com"

    @property
    def stores(self) -> Path:
        """The folder of all stores of the toolset."""
        return self.home / "support"
