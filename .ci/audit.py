"""Known vulnerabilities of what requirements.lock names: python .ci/audit.py [--required].

pip-audit asks the package index. Where that is a mirror without that knowledge, pip-audit skips each package and
reports that it found nothing; here that is told as what it is. With --required, that and each finding fail.
SECURITY.md lists the findings that are accepted, with their reasons.
"""

import json
import re
import subprocess
import sys
from collections.abc import Set
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "pip_audit", "--requirement", "requirements.lock", "--no-deps", "--disable-pip"]
COMMAND += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]

DONE, VULNERABLE, NOT_AUDITED = 0, 1, 3


def verdict(report: str, accepted: Set[str]) -> tuple[int, str]:
    """DONE, VULNERABLE or NOT_AUDITED, and a sentence, of what pip-audit wrote."""
    try:
        found = json.loads(report)["dependencies"]
    except ValueError:
        return NOT_AUDITED, "NOT AUDITED: the index that knows vulnerabilities does not answer. Run it where it does."
    skipped = [one["name"] for one in found if "skip_reason" in one]
    defects = [
        f"{one['name']} {one['version']}: {defect['id']}, mended in {', '.join(defect['fix_versions']) or 'no version'}"
        for one in found
        for defect in one.get("vulns", [])
        if not {defect["id"], *defect["aliases"]} & accepted
    ]
    if defects:
        return VULNERABLE, "\n".join([*defects, "Raise the version in requirements.lock, or accept it in SECURITY.md."])
    if skipped or not found:
        return NOT_AUDITED, (
            f"NOT AUDITED: the index in use knows nothing of {len(skipped)} of {len(found)} packages "
            f"({', '.join(skipped[:3])} …). Run it where the public index answers."
        )
    return DONE, f"No known vulnerability in {len(found)} packages, {len(accepted)} accepted."


def accepted() -> set[str]:
    """The identifiers in SECURITY.md's table."""
    text = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| ((?:CVE|GHSA|PYSEC)-[\w-]+) \|", text, re.MULTILINE))


def main(required: bool) -> int:
    """Exit code."""
    done = subprocess.run(COMMAND, cwd=REPOSITORY, capture_output=True, text=True)
    code, sentence = verdict(done.stdout, accepted())
    sys.stderr.write(f"{sentence}\n")
    # A weakness that became known overnight turns no unrelated change red; --required is for the public CI.
    return code if required else DONE


if __name__ == "__main__":
    sys.exit(main(required="--required" in sys.argv[1:]))
