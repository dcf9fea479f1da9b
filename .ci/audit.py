"""Find known vulnerabilities of the packages in requirements.lock: python .ci/audit.py [--required].

pip-audit queries the package index. If that is a mirror without vulnerability data, pip-audit skips each package and
reports no finding; this script reports NOT AUDITED instead. With --required, that and each finding fail. SECURITY.md
lists the accepted findings with their reasons.
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
    """DONE, VULNERABLE or NOT_AUDITED, and a sentence, from the report of pip-audit."""
    try:
        found = json.loads(report)["dependencies"]
    except ValueError:
        return NOT_AUDITED, "NOT AUDITED: the vulnerability database does not answer. Run the audit where it does."
    skipped = [one["name"] for one in found if "skip_reason" in one]
    defects = [
        f"{one['name']} {one['version']}: {defect['id']}, fixed in {', '.join(defect['fix_versions']) or 'no version'}"
        for one in found
        for defect in one.get("vulns", [])
        if not {defect["id"], *defect["aliases"]} & accepted
    ]
    if defects:
        return VULNERABLE, "\n".join([*defects, "Raise the version in requirements.lock, or accept it in SECURITY.md."])
    if skipped or not found:
        return NOT_AUDITED, (
            f"NOT AUDITED: the package index has no vulnerability data on {len(skipped)} of {len(found)} packages "
            f"({', '.join(skipped[:3])} …). Run the audit where the public index answers."
        )
    return DONE, f"No known vulnerability in {len(found)} packages, {len(accepted)} accepted."


def accepted() -> set[str]:
    """The identifiers in the table of SECURITY.md."""
    text = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| ((?:CVE|GHSA|PYSEC)-[\w-]+) \|", text, re.MULTILINE))


def main(required: bool) -> int:
    """Returns the exit code."""
    done = subprocess.run(COMMAND, cwd=REPOSITORY, capture_output=True, text=True)
    code, sentence = verdict(done.stdout, accepted())
    sys.stderr.write(f"{sentence}\n")
    # A newly published vulnerability must not fail an unrelated change; --required is for the public CI.
    return code if required else DONE


if __name__ == "__main__":
    sys.exit(main(required="--required" in sys.argv[1:]))
