"""Text that a spreadsheet would run as a formula, made text: in every CSV file of ours.

Rule: OWASP, "CSV Injection". Whoever chose a user's or a model's name did not choose
what runs on the machine of who opens the file. Both halves are for `re` as for RE2.
"""

from typing import Final

#: A text that begins so, also in the full-width form that some locales take for it,
#: gets an apostrophe before it; one with apostrophes before it gets one more, so that
#: taking one away from what looks so gives every text back.
FORMULA: Final = r"\A('*[=+\-@\t\r\n＝＋－＠])"  # noqa: RUF001 - those very characters
DEFUSED: Final = r"'\1"
