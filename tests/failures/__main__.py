"""`make failures`: play every scenario so often, and write `docs/failures.md` from what was measured."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from failures import page

ROOT = Path(__file__).parents[2]
FILES = ("tests/failures/test_matrix.py", "tests/failures/test_counts.py", "tests/failures/test_page.py")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make failures")
    parser.add_argument("--runs", type=int, default=5, help="how often to play each scenario (default 5)")
    parser.add_argument("--full", action="store_true", help="and kill writers and servers as often as was promised")
    parser.add_argument("--workers", type=int, default=2, help="scenarios at a time; more add delay (default 2)")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="statecast-failures-") as directory:
        measured = Path(directory) / "measured.jsonl"
        options = ["--runs", str(args.runs), "--measured", str(measured), "--numprocesses", str(args.workers)]
        command = [sys.executable, "-m", "pytest", *FILES, "--dist", "worksteal", "-s", *options]
        code = subprocess.run([*command, *(["--full"] if args.full else [])], cwd=ROOT, check=False).returncode
        if measured.exists():
            page.PATH.write_text(page.page(page.read(measured)), "utf-8")
            print(f"wrote {page.PATH.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
