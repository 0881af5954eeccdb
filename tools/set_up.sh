#!/usr/bin/env bash
# Make .venv and install into it: `set_up.sh run` for the programs, `set_up.sh test` for tests, linter and benchmarks too.
#
# Each step leaves a stamp that names its inputs, so an interrupted set-up resumes where it stopped and a changed
# requirements file is installed again. Output goes to .venv/set_up.log; a failed step prints its end.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
stamps=.venv/stamps
log=.venv/set_up.log

step() { # step NAME FILES... -- COMMAND...: run COMMAND unless its stamp has the checksum of FILES
    local name=$1 files=() checksum
    shift
    while [ "$1" != -- ]; do files+=("$1"); shift; done
    shift
    checksum=$(cat /dev/null "${files[@]}" | cksum)
    [ "$(cat "$stamps/$name" 2>/dev/null)" = "$checksum" ] && return
    echo "set-up: $name"
    if ! "$@" >>"$log" 2>&1; then
        echo "set-up failed at '$name'; the end of $log:" >&2
        tail -n 15 "$log" >&2
        echo "set-up: run the same command again to continue from this step" >&2
        exit 1
    fi
    mkdir -p "$stamps" && echo "$checksum" >"$stamps/$name"
}

install() { .venv/bin/python -m pip install --disable-pip-version-check "$@"; }

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "set-up needs Python 3.10 or newer as '$python'; name another with PYTHON=..." >&2
    exit 1
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "set-up: virtual environment"
    "$python" -m venv --clear .venv || exit 1
fi

# constraints.txt pins what was tested, for that Python and platform; elsewhere the ranges of the requirements decide.
constraints=()
if .venv/bin/python -c 'import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"))'; then
    constraints=(-c constraints.txt)
fi

# pip 26.3 refuses the detectron2 package, and setuptools 81 dropped what it is built with. pip 23.0, which Debian 12 has,
# does not know the options of requirements/detectron2.txt, and torch would upgrade an old setuptools to the newest.
step tools tools/set_up.sh -- install 'pip>=23.1,<26.2' 'setuptools>=77.0.3,<81' wheel
step packages requirements.txt constraints.txt -- install -r requirements.txt ${constraints[@]+"${constraints[@]}"} # the + keeps an empty array legal in old bash
step detectron2 requirements/detectron2.txt -- \
    install --use-pep517 --no-build-isolation --no-deps -r requirements/detectron2.txt
if [ "${1:-run}" = test ]; then
    step test-packages requirements/test.txt requirements/onnx.txt requirements/render.txt requirements/video.txt requirements/formats.txt requirements/docs.txt requirements/ray.txt constraints.txt -- install -r requirements/test.txt ${constraints[@]+"${constraints[@]}"}
    step web-packages requirements/web.txt constraints.txt -- install ${constraints[@]+--no-deps "${constraints[@]}"} -r requirements/web.txt
fi
