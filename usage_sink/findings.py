"""What a check of the ledger has found."""

from dataclasses import dataclass, field
from typing import Final

#: A finding for each of a million rows would help nobody.
MOST_FINDINGS: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written; `seal` names the batch."""

    check: str
    problem: str
    chain: str | None = None
    seal: int | None = None

    def __str__(self) -> str:
        where = f"chain {self.chain} " if self.chain is not None else ""
        batch = f"batch {self.seal} " if self.seal is not None else ""
        return f"{self.check}: {where}{batch}{self.problem}"


@dataclass(slots=True)
class Report:
    """What was looked at and what was found; `names` are those of the chains."""

    names: dict[int, str]
    rows: int = 0
    adjustments: int = 0
    seals: int = 0
    heads: int = 0
    days: int = 0
    archived_days: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.findings

    @property
    def chains(self) -> int:
        return len(self.names)

    def find(
        self,
        check: str,
        problem: str,
        chain: int | str | None = None,
        seal: int | None = None,
    ) -> None:
        """Note a finding; of a chain its name, or its number in the database."""
        if len(self.findings) < MOST_FINDINGS:
            name = (
                self.names.get(chain, str(chain)) if isinstance(chain, int) else chain
            )
            self.findings.append(Finding(check, problem, name, seal))

    def sort(self) -> None:
        """The first bad batch comes first."""
        self.findings.sort(key=_place)


def _place(finding: Finding) -> tuple[bool, str, int]:
    return finding.seal is None, finding.chain or "", finding.seal or 0
