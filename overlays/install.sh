#!/bin/sh
# Installs qatlib on a PYNQ board, without a network, and delivers its notebook:  sudo sh install.sh [folder for notebooks]
set -eu
cd "$(dirname "$0")"
if [ -f /etc/profile.d/pynq_venv.sh ]; then . /etc/profile.d/pynq_venv.sh; fi
python3 -c 'import numpy, matplotlib, pynq' || {
    echo >&2 "python3 lacks numpy, matplotlib or pynq; on a board, run this as root, with PYNQ's own Python (sudo sh install.sh)"
    exit 1
}
python3 -m pip install --disable-pip-version-check --no-index --no-deps --force-reinstall qatlib-*.whl
folder=${1:-${PYNQ_JUPYTER_NOTEBOOKS:-$PWD/notebooks}}
pynq get-notebooks --ignore-overlays --force --path "$folder" qatlib
echo "open $folder/qatlib/07_pynq_overlay.ipynb"
