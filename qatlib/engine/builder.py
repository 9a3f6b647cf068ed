"""Where things lie in the engine's memories, and instructions one after the other; what the operations of a model are
built with."""

from dataclasses import dataclass, replace

import numpy as np

from qatlib.engine import isa
from qatlib.engine import schedule as s
from qatlib.engine.memory import Allocator, DoesNotFit, Pool, Tables, Unsupported
from qatlib.engine.program import Instruction, Program
from qatlib.integer_model import kernels

IDENTITY = (np.array([1 << 15]), np.array([15]))  # m, n that change nothing


@dataclass(frozen=True)
class View:
    """Codes as an instruction reads them, in rows of ROWS bytes of the code memory.

    base: first row; stride: rows from token to token; positions: byte of every channel, counted from the token's first
    row; owner: the name under which the rows are taken; zeros: more tokens after these, all of them the real zero,
    which are not stored.
    """

    base: int
    stride: int
    tokens: int
    positions: np.ndarray
    low: int
    high: int
    zero_point: int
    owner: str
    zeros: int = 0

    @property
    def unsigned(self):
        return self.low >= 0

    @property
    def wide(self):
        """Whether the codes need two passes of 4-bit lanes."""
        return is_wide(self.low, self.high)

    def part(self, start, count):
        """Some of the tokens."""
        return replace(self, base=self.base + start * self.stride, tokens=count)


def is_wide(low, high):
    return high > 15 if low >= 0 else low < -8 or high > 7


def loops(tokens, groups, chunks=1, passes=1):
    """Issue at which each group of outputs is done: (token, group)."""
    return ((np.arange(tokens)[:, None] * groups + np.arange(groups)) + 1) * chunks * passes - 1


def _operand_reads(opcode, x, fields, passes):
    """When the codes, and the keys or values, of a product are first read: [Access, ..]."""
    groups, chunks = fields["groups"], np.arange(fields["chunks"])
    tokens, each = np.arange(x.tokens)[:, None], np.arange(groups)[:, None]
    rows = x.base + tokens * x.stride + chunks * fields["x_chunk"]  # (tokens, chunks)
    look = (tokens * groups * len(chunks) + chunks) * passes
    reads = [s.Access("code", rows.ravel(), look.ravel())]
    if opcode == "attend":
        words = fields["w_base"] + each * fields["w_group"] + chunks  # (groups, chunks)
        reads.append(s.Access("kv", words.ravel(), ((each * len(chunks) + chunks) * passes).ravel()))
    return reads


def limits(tensor, stage):
    """Fields of zero point and range of a stage."""
    return {f"z{stage}": tensor.zero_point, f"low{stage}": tensor.low, f"high{stage}": tensor.high}


class Builder:
    """The state of a compilation: memories, the timeline, the instructions so far."""

    def __init__(self, model, config, tile):
        self.model, self.config, self.tile = model, config, tile
        self.rows, self.cols, self.blocks = config.rows, config.cols, config.rows // config.cols
        self.consumers = {}
        for operation in model.operations:
            for name in operation.inputs:
                self.consumers.setdefault(name, []).append(operation)
        self.left = {name: len(users) for name, users in self.consumers.items()}
        self.producers = {o.output: o for o in model.operations}
        self.fused = set()  # paths of operations that an earlier instruction carries out
        self.views, self.keys, self.values, self.residuals = {}, {}, {}, {}  # where tensors are, by name
        self.codes = Allocator("code memory", config.code_depth, "rows")
        self.residual = Allocator("residual memory", config.residual_depth, "words")
        self.kv = Allocator("key/value memory", config.kv_depth, "words")
        self.weights = Pool("weight memory", config.weight_depth, config.lanes // 8)
        self.parameters = Pool("parameter memory", config.param_depth, 2 * self.cols)
        self.adds = Pool("add memory", config.add_depth, 3 * self.cols)
        self.tables = Tables("table memory", config.tables)
        self.positions = []  # (first word, words) of the residual memory
        self.places = {}  # of channels in their token, by name, where they are not one after another
        self.anchor = None  # (channel, None) or (None, constant) that is subtracted now, see `channels`
        depths = {"code": config.code_depth, "kv": config.kv_depth, "residual": config.residual_depth, "anchor": 1}
        depths |= {"max": config.softmax_rows, "reciprocal": config.softmax_rows}
        self.timeline = s.InTurn() if config.in_turn else s.Timeline(depths)
        self.instructions = []

    # ---- The model

    def tensor(self, name):
        return self.model.tensors[name]

    def array(self, operation, name):
        return self.model.arrays[f"{operation.path}.{name}"].astype(np.int64)

    def release(self, operation):
        """Give back the memory of the operation's inputs that nothing needs any more."""
        for name in operation.inputs:
            self.left[name] -= 1
            if self.left[name] == 0:
                view = self.views.get(name)
                if view is not None and not any(
                    v.owner == view.owner and self.left.get(n) for n, v in self.views.items()
                ):
                    self.codes.free(view.owner)
                self.residual.free(name)
                self.kv.free(name)

    def view(self, name, *, zeros=False):
        """Where a tensor's codes are. zeros: also of one whose last tokens are not stored."""
        view = self.views.get(name)
        if view is None:
            raise Unsupported(f"tensor {name}: the engine does not hold it as codes where something reads them")
        if view.zeros and not zeros:
            raise Unsupported(f"tensor {name}: the engine takes placeholders to a linear layer with an add alone")
        return view

    # ---- Memories

    def store(self, name, tensor, tokens, channels):
        """Room in the code memory for (tokens, channels) -> View."""
        places = self.places.get(name, np.arange(channels))
        stride = int(places.max()) // self.rows + 1
        base = self.codes.take(name, tokens * stride)
        return View(base, stride, tokens, places, tensor.low, tensor.high, tensor.zero_point, name)

    def code_target(self, view, groups):
        """Fields that write groups of channels to the tokens of a view; `words`: (tokens, groups) rows written."""
        words = view.base + np.arange(view.tokens)[:, None] * view.stride + np.arange(groups) // self.blocks
        return {"dest": "codes", "d_base": view.base, "d_token": view.stride, "words": words}

    def weight_fields(self, weight, positions, out_positions=None):
        """Weights (out, in) for codes at these bytes -> fields. out_positions: places of the outputs, which then fill
        whole rows."""
        chunks = int(positions.max()) // self.rows + 1
        if out_positions is None:
            out_positions = np.arange(len(weight))
            groups = -(-len(weight) // self.cols)
        else:  # what lies between must be written too, as zeros
            groups = -(-(int(out_positions.max()) + 1) // self.rows) * self.blocks
        full = np.zeros((groups * self.cols, chunks * self.rows), np.int64)
        full[np.ix_(out_positions, positions)] = weight
        wide = int(is_wide(min(full.min(), -1), full.max()))
        blocks = full.reshape(groups, self.cols, chunks, self.rows).transpose(0, 2, 1, 3)  # group, chunk, column, row
        planes = np.stack([blocks & 15, (blocks >> 4) & 15][: 1 + wide], 2)
        nibbles = planes.reshape(groups * chunks * (1 + wide), -1, 8).astype(np.uint32)
        base = self.weights.add((nibbles << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32))
        return {
            "w_base": base,
            "w_wide": wide,
            "w_group": chunks * (1 + wide),
            "w_chunk": 1 + wide,
            "groups": groups,
            "chunks": chunks,
        }

    def identity_fields(self, x, channels):
        return self.weight_fields(np.eye(channels, dtype=np.int64), x.positions)

    def parameter_fields(self, groups, m, n, bias=None, where=None):
        """Multipliers per channel or one for all, and biases; where: place of each channel."""
        scalar = len(m) == len(n) == 1 and bias is None
        lanes = np.zeros((3, self.cols if scalar else groups * self.cols), np.int64)
        lanes[1:] = [[m[0]], [n[0]]]
        if not scalar:
            channels = len(bias) if bias is not None else max(len(m), len(n))
            where = np.arange(channels) if where is None else where
            lanes[0, where] = 0 if bias is None else bias
            lanes[1, where] = m
            lanes[2, where] = n
        multiplier, shift = isa.scaled(lanes[1], lanes[2])
        words = np.stack([lanes[0] & 0x1FFFFFF, multiplier | shift << 17]).reshape(2, -1, self.cols).transpose(1, 0, 2)
        return {"p_base": self.parameters.add(words.reshape(len(words), -1)), "p_group": int(not scalar)}

    def add_parameters(self, groups, first, second, offset, n, where=None):
        """m1 (of the product), m2 (of the residual), c and n per channel -> group of the add memories."""
        lanes = np.zeros((3, groups * self.cols), np.int64)
        lanes[:, np.arange(len(first)) if where is None else where] = (
            first & 0x1FFFF | (n - 1) << 17,
            second & 0x1FFFF,
            offset & 0xFFFFFFFF,
        )
        return self.adds.add(lanes.reshape(3, groups, self.cols).transpose(1, 0, 2).reshape(groups, -1))

    def operand_fields(self, source, operation):
        """The table that turns codes of `source` into those of a requantisation of them, or leaves them (operation
        None)."""
        codes, result = np.arange(256), source
        codes = codes if source.low >= 0 else codes - 256 * (codes > 127)
        if operation is not None:
            m, n, result = self.array(operation, "m"), self.array(operation, "n"), self.tensor(operation.output)
            if len(m) > 1 or len(n) > 1:
                raise Unsupported(
                    f"requantise {operation.path}: the engine takes one multiplier for the tensor, not "
                    f"{max(len(m), len(n))}"
                )
            codes = kernels.requantise(codes - source.zero_point, m[0], n[0], *result.limits)
        codes = codes.astype(np.int64)
        table, high = (
            (self.tables.add((codes & 255).reshape(1, 256)), 0)
            if is_wide(result.low, result.high)
            else self.tables.add_nibbles(codes)
        )
        return {"lut": table, "lut_high": high}

    # ---- Instructions

    def emit(self, opcode, fields, path, *, issues, reads=(), writes=(), after=0, macs=0, uses=()):
        fields = {"opcode": opcode, "x_wide": 0, "w_wide": 0, **fields}
        stall, cycles = self.timeline.place(fields, issues, reads, writes, after=after, uses=uses)
        if stall >= 1 << 12:
            raise Unsupported(f"{path}: {stall} cycles to wait do not fit the instruction")
        fields["stall"] = stall
        self.instructions.append(Instruction(fields, path, macs, issues, cycles))

    def product(self, path, x, weights, target, *, opcode="matmul", macs=0, extra=None, add=None):
        """Codes x with weights, to the target.

        weights: fields of the weights, groups, chunks and parameters; target: dest, its fields, and `words` written
        (tokens, groups). add: (fields, words of the residual read, words written or None), each (tokens, groups).
        """
        tokens = x.tokens
        passes = self.config.passes(x.wide, weights["w_wide"], x.unsigned)
        done = loops(tokens, weights["groups"], weights["chunks"], passes)
        fields = {
            "tokens": tokens, "x_wide": int(x.wide), "x_unsigned": int(x.unsigned), "x_base": x.base,
            "x_token": x.stride, "x_chunk": 1,
            **weights, **{k: v for k, v in target.items() if k != "words"}, **(extra or {}),
        }  # fmt: skip
        reads, writes, uses = _operand_reads(opcode, x, fields, passes), [], []
        latency = s.CODE_LATENCY
        if add:
            add_fields, read, written = add
            fields |= {"add": 1, **add_fields}
            reads.append(s.Access("residual", read.ravel(), done.ravel() + s.RESIDUAL_READ))
            if written is not None:
                writes.append(s.Access("residual", written.ravel(), done.ravel() + s.SUM_LATENCY))
            latency = s.OPERAND_LATENCY
        first, last = int(done[0, 0]), int(done[-1, -1])
        if target["dest"] == "codes":
            writes.append(s.Access("code", target["words"].ravel(), done.ravel() + latency))
            uses.append(("code write", first + latency, last + latency))
            if add:
                uses.append(("table read", first + s.OPERAND_READ, last + s.OPERAND_READ))
        elif target["dest"] != "none":
            writes.append(s.Access("kv", target["words"].ravel(), done.ravel() + latency))
        if fields.get("track_max"):
            writes.append(s.Access("max", fields["row"] + np.arange(tokens), done[:, -1] + s.MAX_LATENCY))
        self.emit(opcode, fields, path, issues=last + 1, reads=reads, writes=writes, macs=macs, uses=uses)

    # ---- The program

    def program(self):
        model = self.model
        return Program(
            model.name,
            self.config,
            model.window_shape,
            model.forecast_shape,
            model.channels[0].anchor if len(model.channels) == 1 else 0,
            tuple(self.instructions),
            self._memories(),
        )

    def _memories(self):
        """{region: uint32 words} of everything that is loaded."""
        words = np.concatenate([isa.encode(i.coded) for i in self.instructions])
        if len(words) > self.config.program_words:
            raise DoesNotFit("program memory", len(words), self.config.program_words, "words")
        parameters = self.parameters.array().reshape(-1, 2, self.cols)
        adds = self.adds.array().reshape(-1, 3, self.cols)
        residual = np.zeros(
            (max((base + len(codes) for base, codes in self.positions), default=0), -(-self.cols // 4)), np.uint32
        )
        for base, codes in self.positions:
            residual[base : base + len(codes)] = codes
        arrays = {
            "program": words, "bias": parameters[:, 0], "scale": parameters[:, 1], "add1": adds[:, 0],
            "add2": adds[:, 1],
            "addc": adds[:, 2], "residual": residual, "tables": self.tables.array(), "weights": self.weights.array(),
        }  # fmt: skip
        return {name: np.ascontiguousarray(a, dtype=np.uint32).ravel() for name, a in arrays.items() if a.size}
