"""The command `dinomatte` of the wheel: runs a program of the project from any folder.

    dinomatte auto_matte photo.jpg --output cutout.png --cutout --box 120 40 780 990
    dinomatte inference --image photo.jpg --trimap trimap.png --output matte.png

NAME is the name of a script without .py. `dinomatte` alone lists the names.
"""

import ast
import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
PROJECT = _HERE / "project" if (_HERE / "project").is_dir() else _HERE.parent  # in the wheel, and in a clone


def main() -> None:
    """Run the program that the first argument names.

    Raises:
        SystemExit: with the program's status; 2 for an unknown name.
    """
    programs = find_programs()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage(programs))
        return
    if name not in programs:
        print(f"error: expected one of {', '.join(programs)}, got {name!r}", file=sys.stderr)
        sys.exit(2)
    sys.path.insert(0, str(PROJECT))
    sys.argv[1:] = arguments
    runpy.run_path(str(programs[name]), run_name="__main__")


def find_programs() -> dict[str, Path]:
    """Scripts of the project by name: those that run when they are started, except this one."""
    scripts = [*sorted(PROJECT.glob("*.py")), *sorted((PROJECT / "tools").glob("*.py"))]
    return {
        script.stem: script
        for script in scripts
        if script.stem != "programs" and "__main__" in script.read_text(encoding="utf-8")
    }


def usage(programs: dict[str, Path]) -> str:
    """List of the programs, each with the first line of its docstring."""
    width = max(map(len, programs))
    lines = ["usage: dinomatte NAME ...   (dinomatte NAME --help for its options)", ""]
    for name, script in programs.items():
        summary = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        lines.append(f"  {name:{width}}  {summary}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
