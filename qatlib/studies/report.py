"""The decision maker's page, `paper_figures/report.html`: English and Japanese, one sheet of paper each, every number
from the tables.

It needs no network and no script: the language is the page's fragment, `report.html` or `report.html#ja`.
"""

import base64
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import tomllib

from qatlib.runs import comparison
from qatlib.studies import cost
from qatlib.studies.assessment import LINEAR
from qatlib.studies.style import in_unit
from qatlib.system import paths

WORDS = Path(__file__).with_name("report.toml")
FILE, FPGA = "report.html", cost.IDLING
WORTH = 1.0  # % of error on validation; a Transformer that wins less over a linear map is not worth its bytes
WIDTHS = ["method", "weight_bits", "activation_bits"]
HEAD = (
    '<link rel="icon" href="data:,"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
)
STYLE = WORDS.with_suffix(".css").read_text()
EVIDENCE = {"measured": "実測", "simulated": "シミュレーション", "estimated": "推定", "published": "公表値"}
STATES = {"passed": "✓", "failed": "✗", "open": "○"}
STAGES = {"proof of concept": "概念実証", "pilot": "試験導入", "production": "量産"}
UNITS = {"times": "倍", "devices": "台", "visits": "回"}
GATES = {
    "error_baseline": "4ビット整数モデルのテスト誤差(最良の基準手法比)",
    "error_float": "同、浮動小数点モデル比",
    "equal": "シミュレーションおよびエミュレーション上の出力のうちNumPyと一致する割合",
    "flash": "Cortex-M4のフラッシュ(コードとパラメータ)",
    "alarms": "正常な窓に対する監視機能の誤警報",
    "detection": "異常な窓の検出率(最も難しい異常)",
    "update": "現地訪問なしに更新および復元できた機器",
    "latency": "遅延の実測値(推定値比)",
    "energy": "1予測の消費エネルギーの実測値(推定値比)",
    "field_error": "10台、8週間の誤差(最良の基準手法比)",
    "break_even": "マイコンがクラウドより有利になる台数",
    "delivered": "3か月間で予測が得られた時間の割合",
    "visits": "1台あたり年間の現地訪問",
}
NAMES = {
    cost.HERE: "ノートPC(サーバーのx86-64コア)",
    "cloud over NB-IoT or LTE-M": "クラウド(NB-IoT/LTE-M経由)",
    "cloud over Wi-Fi": "クラウド(Wi-Fi経由)",
    FPGA: "XC7S15(待機を継続)",
    cost.SWITCHED: "XC7S15(都度電源を切る)",
    "float, in the cloud": "浮動小数点(クラウド)",
    "PTQ, as published": "PTQ(公表値)",
}
HEADINGS = (
    ("target", "実行先"),
    ("model", "モデル"),
    ("MSE", "MSE"),
    ("stored", "保存容量"),
    ("latency", "遅延"),
    ("energy of a forecast", "1予測のエネルギー"),
    ("of a day", "1日のエネルギー"),
)
PRICE = (
    "{option}: {unit:,g} a device, {engineering:,g} for engineering, {upkeep:,g} a year",
    "{option}：1台{unit:,g}、開発費{engineering:,g}、年間{upkeep:,g}",
)
PAYS = ("{option} from {devices} devices on", "{option}は{devices}台から")
TEXTS = {key: (text["en"], text["ja"]) for key, text in tomllib.loads(WORDS.read_text()).items()}


def write(experiment, methods, decisions):
    """Write the page from the tables of notebook 11, under FIGURES. methods: of `assessment.methods`; decisions: of
    `detection.in_brief`. -> its path"""
    tables = {
        name: pd.read_csv(paths.TABLES / f"{name}.csv")
        for name in ("verdict", "11_verdict", "11_gates", "11_break_even", "11_money")
    }
    tables |= {"methods": methods, "decisions": decisions}
    figure, path = (paths.FIGURES / "11_axes.svg").read_bytes(), paths.FIGURES / FILE
    dataset, windows, seeds = experiment.dataset, len(experiment.windows("test").rows), len(experiment.seeds)
    about = f"{dataset.name}, {dataset.target}" + (f" ({dataset.note})" if dataset.note else "")
    english = f"{about}, {experiment.profile} profile: {windows:,} test windows, seeds: {seeds}"
    japanese = f"{about}、{experiment.profile}プロファイル：テスト窓{windows:,}、シード数{seeds}"
    path.write_text(page(tables, figure, (english, japanese)), encoding="utf-8")
    return path


def page(tables, figure, data):
    """The page as HTML. tables: {name: frame} as notebook 11 writes them, `methods` with them; figure: SVG; data: what
    they are about, in English and Japanese.

    What there is no number for, an FPGA without room for the model or a cloud without a price, is left out."""
    facts = _facts(tables) | {"data": data}
    text = {
        key: _both(*(t.format(**{k: v[i] for k, v in facts.items()}) for i, t in enumerate(pair)))
        for key, pair in TEXTS.items()
    }
    stages = "".join(_stage(stage, part) for stage, part in tables["11_gates"].groupby("stage", sort=False))
    gates = tables["11_gates"].set_index("key")
    better = "better" if facts["linear_behind"][0] <= WORTH else "worse"
    loses = f"<b>{text['loses']}</b> " if gates["state"]["error_baseline"] == "failed" else ""
    fpga = f"<p>{text['fpga']}</p>" if (tables["11_verdict"]["target"] == FPGA).any() else ""
    money = f"<h2>{text['money']}</h2>\n<p>{text['crossing']}</p>" if facts["pays"][0] else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>{HEAD}
<title>{escape(TEXTS["title"][0])}</title>
<style>{STYLE}</style></head>
<body><a id="ja"></a><main>
<nav><a href="#">English</a> · <a href="#ja">日本語</a></nav>
<h1>{text["title"]}</h1><p class="lead">{loses}{text["lead"]}</p>
<p>{text["error"]}</p>
<p>{text["linear"]} {text[f"linear_{better}"]}</p>
{fpga}
<p>{text["classify"]} {text["detect"]}</p>
<h2>{text["where"]}</h2>
{_table(tables["11_verdict"])}
<h2>{text["figure"]}</h2>
{_figure(figure)}
{money}
<h2>{text["plan"]}</h2>
<div class="stages">{stages}</div>
<p class="note">{text["legend"]}</p>
<p class="note">{text["note"]}</p>
</main></body>
</html>
"""


def _both(english, japanese):
    return f'<span lang="en">{escape(english)}</span><span lang="ja">{escape(japanese)}</span>'


def _terms(row):
    return {
        "years": f"{row['years']:g}",
        "megabyte": f"{row['megabyte']:,g}",
        "visit": f"{row['visit']:,g}",
        "battery": _joules(row["battery"]),
    }


def _facts(tables):
    """{name: (English, Japanese)} of all that TEXTS leave open."""
    verdict, targets, money = tables["verdict"], tables["11_verdict"].set_index("target"), tables["11_money"]
    error = verdict.drop_duplicates("method").set_index("method")["mse"]
    width = verdict.drop_duplicates(WIDTHS).set_index(WIDTHS)["mse"]
    four, floats, best = width["QAT", 4, 4], error["float, PyTorch"], targets["joules_a_day"].idxmin()
    places = (cost.M4.name, f"cloud over {cost.RADIOS[0].name}", FPGA, cost.SWITCHED)
    # nothing but NaN where it is none of the targets
    m4, cloud, fpga, off = (targets.reindex([name]).iloc[0] for name in places)
    facts = {
        "minutes": f"{m4['period'] / 60:g}",
        "best_day": _joules(targets["joules_a_day"][best]),
        "m4_latency": _time(m4["latency_us"]),
        "m4_flash": _bytes(m4["size_bytes"]),
        "cloud_day": _joules(cloud["joules_a_day"]),
        "cloud_latency": _time(cloud["latency_us"]),
        "four": f"{four:.4f}",
        "two": f"{width['QAT', 2, 2]:.4f}",
        "ptq_four": f"{width['PTQ', 4, 4]:.4f}",
        "ptq_two": f"{width['PTQ', 2, 2]:.4f}",
        "float": f"{floats:.4f}",
        "change": f"{100 * (four / floats - 1):+.1f}",
        "ridge": f"{error['ridge']:.4f}",
        "ridge_size": _bytes(verdict.set_index("method")["size_bytes"]["ridge"]),
        "persistence": f"{error['persistence']:.4f}",
        "fpga_latency": _time(fpga["latency_us"]),
        "fpga_times": f"{m4['latency_us'] / fpga['latency_us']:,.0f}",
        "fpga_day": _joules(fpga["joules_a_day"]),
        "off_day": _joules(off["joules_a_day"]),
        "off_latency": _time(off["latency_us"]),
    }
    four_against_best = tables["11_gates"].set_index("key")["found"]["error_baseline"]
    facts["behind"] = f"{100 - 100 / (1 + four_against_best / 100):.1f}"
    facts |= _linear(tables, four) | _terms(money.iloc[0]) | _decisions(tables["decisions"])
    both = {name: (value, value) for name, value in facts.items()}
    prices = [{**row, "upkeep": row["upkeep"] / row["years"]} for row in money.to_dict("records")]
    crossings = tables["11_break_even"]
    pays = crossings[crossings["against"].str.startswith("cloud") & ~crossings["option"].str.startswith("cloud")]
    pays = [{"option": row.option, "devices": _devices(row.devices)} for row in pays.itertuples()]
    return both | {"best": (best, NAMES.get(best, best)), "prices": _each(PRICE, prices), "pays": _each(PAYS, pays)}


def _linear(tables, four):
    """Facts of the linear map on the microcontroller, beside the Transformer's error `four`."""
    linear = tables["verdict"].query("method == @LINEAR and target == @cost.M4.name").iloc[0]
    validation = tables["methods"].set_index(WIDTHS)["mse_validation"]
    return {
        "linear": f"{linear['mse']:.4f}",
        "linear_change": f"{100 * (linear['mse'] / four - 1):+.1f}",
        "linear_size": _bytes(linear["size_bytes"]),
        "linear_latency": _time(linear["latency_us"]),
        "linear_behind": 100 * (validation[LINEAR, 4, 4] / validation["QAT", 4, 4] - 1),
    }


def _decisions(found):
    """Facts of labels and faults: F1 with a slash between test files."""
    sizes = {name: _bytes(size) for name, size in found.items() if name.endswith("_size")}
    f1 = {name: " / ".join(f"{x:.2f}" for x in value) for name, value in found.items() if isinstance(value, list)}
    return sizes | f1 | {"room_rival": found["room_rival"]}


def _each(pair, rows):
    """One text a row and language, joined."""
    translated = [row | {"option": NAMES.get(row["option"], row["option"])} for row in rows]
    return "; ".join(pair[0].format(**row) for row in rows), "；".join(pair[1].format(**row) for row in translated)


def _figure(svg):
    alternative, image = escape(TEXTS["figure"][0]), base64.b64encode(svg).decode()
    return f'<div class="scroll"><img alt="{alternative}" src="data:image/svg+xml;base64,{image}"></div>'


def _table(frame):
    head = "<tr>" + "".join(f"<th>{_both(*title)}</th>" for title in HEADINGS) + "</tr>"
    label, rows = escape(TEXTS["where"][0]), "".join(map(_row, frame.itertuples()))
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>{head}{rows}</table></div>'


def _row(row):
    plain = np.isnan(row.weight_bits) or row.weight_bits == 32 or row.method in NAMES
    method = row.method if plain else f"{row.method} {comparison.width_label(row)}"
    cells = [
        _both(row.target, NAMES.get(row.target, row.target)),
        _both(method, NAMES.get(method, method)),
        escape(f"{row.mse:.4f}" if np.isfinite(row.mse) else "–"),
        escape(_bytes(row.size_bytes)),
        _with_evidence(_time(row.latency_us), row.latency_evidence),
        _with_evidence(_joules(row.energy_uj / 1e6), row.energy_evidence),
        escape(_joules(row.joules_a_day)),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _with_evidence(text, evidence):
    return _both(f"{text}, {evidence}", f"{text}({EVIDENCE[evidence]})")


def _stage(stage, part):
    items = "".join(f"<li>{STATES[row.state]} {_both(*_gate(row))}</li>" for row in part.itertuples())
    return f"<div><h3>{_both(stage, STAGES[stage])}</h3><ul>{items}</ul></div>"


def _gate(row):
    """-> English, Japanese"""
    bar, found = row.bar.replace(">=", "≥"), _devices(row.found) if row.key == "break_even" else f"{row.found:.3g}"
    for text, unit, after in (
        (row.gate, row.unit, "; found {}"),
        (GATES[row.key], UNITS.get(row.unit, row.unit), "、結果 {}"),
    ):
        yield f"{text}: {bar} {unit}" + (after.format(f"{found} {unit}") if np.isfinite(row.found) else "")


def _time(microseconds):
    return in_unit(microseconds / 1e6, "s")


def _bytes(size):
    return in_unit(size, "B")


def _joules(joules):
    return in_unit(joules, "J")


def _devices(number):
    return f"{np.ceil(number):,.0f}" if np.isfinite(number) else "∞"
