"""From an exported model to a program of the engine: what lies where, what is carried out when, and how many cycles it takes.

Every operation becomes one kind of instruction: a product of codes with weights (or keys, values), whose result passes a requantisation,
perhaps a residual add, perhaps a second requantisation. What is no product is one with an identity. Tensors live in the code memory as
rows of ROWS bytes, the residual stream in a memory of its own.
"""

from dataclasses import dataclass, replace

import numpy as np

from qatlib.engine import isa
from qatlib.engine import schedule as s
from qatlib.engine.memory import Allocator, DoesNotFit, Pool
from qatlib.kernels import softmax_table

IDENTITY = (np.array([1 << 15]), np.array([15]))  # m, n that change nothing
MATRIX = ("matmul", "attend")


@dataclass(frozen=True)
class View:
    """Codes as an instruction reads them. `positions`: byte of every channel, counted from the token's first row.

    base: first row, None for the residual memory alone; stride: rows from token to token.
    """

    base: int
    stride: int
    tokens: int
    positions: np.ndarray
    low: int
    high: int
    zero_point: int
    owner: str  # the tensor whose rows these are

    @property
    def unsigned(self):
        return self.low >= 0

    @property
    def wide(self):
        return self.high > 15 if self.unsigned else self.low < -8 or self.high > 7


@dataclass(frozen=True)
class Instruction:
    """One instruction: its fields, the operation it belongs to, useful multiply-accumulates, and when it runs.

    cycles: from the end of the one before to its own end; issues: of these, cycles in which it keeps the array or a memory busy.
    """

    fields: dict
    path: str
    macs: int
    issues: int
    cycles: int

    @property
    def opcode(self):
        return self.fields["opcode"]


@dataclass(frozen=True)
class Program:
    """What the engine needs to run a model. memories: {region: uint32 words}."""

    name: str
    config: isa.EngineConfig
    context: int
    horizon: int
    anchor: int | None
    instructions: tuple
    memories: dict

    @property
    def writes(self):
        """(byte address, uint32 words) of everything to be loaded."""
        return [(isa.REGIONS[region] << 16, words) for region, words in self.memories.items()]

    @property
    def macs(self):
        """Multiply-accumulates of a forecast, without padding and identities."""
        return sum(i.macs for i in self.instructions)

    @property
    def cycles(self):
        """Predicted cycles from window to window, where the bus keeps up."""
        return sum(i.cycles for i in self.instructions)

    @property
    def bound(self):
        """Cycles that the multiply-accumulates alone would take on this array, at the widths of each instruction."""
        passes = sum(i.macs * (1 + i.fields["x_wide"]) * (1 + i.fields["w_wide"]) for i in self.instructions if i.opcode in MATRIX)
        return -(-passes // self.config.lanes)

    @property
    def utilisation(self):
        """Multiply-accumulates against the array's peak at their widths, over the cycles of the matrix instructions, stalls included."""
        return self.bound / sum(i.cycles for i in self.instructions if i.opcode in MATRIX)

    def operations(self):
        """(path, opcode, issues, cycles, macs, bound) of each instruction."""
        for i in self.instructions:
            passes = (1 + i.fields.get("x_wide", 0)) * (1 + i.fields.get("w_wide", 0))
            yield i.path, i.opcode, i.issues, i.cycles, i.macs, i.macs * passes / self.config.lanes

    def listing(self):
        """The program as text: one line an instruction."""
        lines = [f"{self.name} on {self.config.name}: {self.macs} multiply-accumulates, {self.cycles} cycles a window predicted"]
        for i in self.instructions:
            f = i.fields
            shape = f"{f.get('tokens', 1)} x {f.get('groups', 1)} x {f.get('chunks', 1)}"
            target = "residual" if f.get("s_write") else ""
            target = " + ".join(filter(None, (f.get("dest", "none").replace("none", ""), target)))
            lines.append(f"  {i.opcode:12}{i.path:34}{shape:16}{i.cycles:6} cycles, {f['stall']:3} stalled  -> {target}")
        return "\n".join(lines)


def compile(model, config):
    """IntegerModel -> Program. DoesNotFit names the memory that is short and by how much; ValueError what the engine cannot do."""
    tokens = max(t.shape[-2] for t in model.tensors.values())
    tile, reason = tokens, None
    while tile >= 1:  # fewer tokens at a time need less memory for what lies between two products
        try:
            return _Compiler(model, config, tile).program()
        except DoesNotFit as error:
            reason = reason if reason and reason.short <= error.short else error
            tile = -(-tile // 2) if tile > 1 else 0
    raise reason


class _Compiler:
    def __init__(self, model, config, tile):
        self.model, self.config, self.tile = model, config, tile
        self.rows, self.cols, self.blocks = config.rows, config.cols, config.rows // config.cols
        self.consumers = {}
        for operation in model.operations:
            for name in operation.inputs:
                self.consumers.setdefault(name, []).append(operation)
        self.left = {name: len(users) for name, users in self.consumers.items()}
        self.views, self.keys, self.values, self.residuals, self.fused = {}, {}, {}, {}, set()
        self.producers = {o.output: o for o in model.operations}
        self.codes = Allocator("code memory", config.code_depth, "rows")
        self.residual = Allocator("residual memory", config.residual_depth, "words")
        self.kv = Allocator("key/value memory", config.kv_depth, "words")
        self.weights = Pool("weight memory", config.weight_depth, config.lanes // 8)
        self.parameters = Pool("parameter memory", config.param_depth, 2 * self.cols)
        self.adds = Pool("add memory", config.add_depth, 3 * self.cols)
        self.positions = []  # (base, words) of the residual memory
        depths = {"code": config.code_depth, "kv": config.kv_depth, "residual": config.residual_depth}
        self.timeline = s.Timeline({**depths, "max": config.softmax_rows, "reciprocal": config.softmax_rows})
        self.instructions = []

    # ---- The walk

    def program(self):
        quantises = self._count_quantises()
        self.input_left = quantises
        for operation in self.model.operations:
            if operation.kind == "add_position":  # its codes stay for good, so they come first
                self._load_position(operation)
        for operation in self.model.operations:
            if operation.path not in self.fused:
                getattr(self, "_" + operation.kind)(operation)
                self._release(operation)
        self._emit("end", {}, "end", issues=1, after=s.DRAIN)
        return Program(
            self.model.name, self.config, self.model.context, self.model.horizon, self.model.anchor,
            tuple(self.instructions), self._memories(),
        )

    def _memories(self):
        words = np.concatenate([isa.encode(self._encodable(i.fields)) for i in self.instructions])
        if len(words) > self.config.program_words:
            raise DoesNotFit("program memory", len(words), self.config.program_words, "words")
        lanes, groups = self.cols, self.parameters.array()
        adds = self.adds.array().reshape(-1, 3, lanes)
        residual = np.zeros((self.residual.peak, lanes // 4), np.uint32)
        for base, codes in self.positions:
            residual[base : base + len(codes)] = codes
        groups = groups.reshape(-1, 2, lanes)
        arrays = {
            "program": words, "bias": groups[:, 0], "scale": groups[:, 1],
            "add1": adds[:, 0], "add2": adds[:, 1], "addc": adds[:, 2],
            "residual": residual, "weights": self.weights.array(),
        }
        return {name: np.ascontiguousarray(a, dtype=np.uint32).ravel() for name, a in arrays.items() if a.size}

    @staticmethod
    def _encodable(fields):
        coded = dict(fields, opcode=isa.OPCODES[fields["opcode"]], dest=isa.DESTINATIONS[fields.get("dest", "none")])
        less_one = {name: coded[name] - 1 for name in ("tokens", "groups", "chunks") if name in coded}
        return coded | less_one

    def _release(self, operation):
        """Give back the memory of tensors that nothing needs any more."""
        for name in operation.inputs:
            self.left[name] -= 1
            if self.left[name] == 0:
                self._drop(name)

    def _drop(self, name):
        view = self.views.get(name)
        if view is not None:
            owners = [n for n, v in self.views.items() if v.owner == view.owner and (self.left.get(n, 0) > 0)]
            if not owners:
                self.codes.free(view.owner)
        self.residual.free(name)

    def _tensor(self, name):
        tensor = self.model.tensors[name]
        if tensor.low < 0 and tensor.high > 127:
            raise ValueError(f"tensor {name}: codes {tensor.low}..{tensor.high} need more than 8 bits; the engine stores bytes")
        return tensor

    # ---- Emission

    def _emit(self, opcode, fields, path, *, issues, reads=(), writes=(), after=0, macs=0, latency=s.CODE_LATENCY, first_code=None):
        stall, cycles = self.timeline.place(issues, reads, writes, after=after, latency=latency, first_code=first_code)
        if stall >= 1 << 12:
            raise ValueError(f"{path}: {stall} cycles to wait do not fit the instruction")
        fields = {"opcode": opcode, "stall": stall, "x_wide": 0, "w_wide": 0, **fields}
        self.instructions.append(Instruction(fields, path, macs, issues, cycles))

    def _loops(self, tokens, groups, chunks, passes=1):
        """Issue at which each group is done: (token, group)."""
        return ((np.arange(tokens)[:, None] * groups + np.arange(groups)) + 1) * chunks * passes - 1

    def _product(self, path, x, weights, target, *, opcode="matmul", macs=0, extra=None, add=None):
        """One product: x (View), weights (dict of w_ fields, groups, chunks), target (dict: dest, d_base, d_token, limits, words).

        add: None, or (fields, residual words read (tokens, groups), residual words written or None).
        """
        tokens, groups, chunks = x.tokens, weights["groups"], weights["chunks"]
        passes = (1 + x.wide) * (1 + weights["w_wide"])
        done = self._loops(tokens, groups, chunks, passes)
        row = x.base + np.arange(tokens)[:, None] * x.stride + np.arange(chunks) * weights.get("x_chunk", 1)
        first = np.arange(tokens)[:, None] * groups * chunks * passes + np.arange(chunks) * passes
        reads = [s.Access("code", row.ravel(), first.ravel())]
        if opcode == "attend":
            word = weights["w_base"] + np.arange(groups)[:, None] * weights["w_group"] + np.arange(chunks)
            reads.append(s.Access("kv", word.ravel(), (np.arange(groups)[:, None] * chunks + np.arange(chunks)).ravel() * passes))
        writes, first_code, latency = [], None, s.CODE_LATENCY
        fields = {
            "tokens": tokens, "groups": groups, "chunks": chunks, "x_wide": int(x.wide), "x_unsigned": int(x.unsigned),
            "x_base": x.base, "x_token": x.stride, "x_chunk": weights.get("x_chunk", 1),
            **{k: v for k, v in weights.items() if k not in ("groups", "chunks", "x_chunk")},
            **{k: v for k, v in target.items() if k != "words"}, **(extra or {}),
        }
        if add:
            add_fields, read, written = add
            fields |= {"add": 1, **add_fields}
            reads.append(s.Access("residual", read.ravel(), done.ravel() + s.RESIDUAL_READ))
            if written is not None:
                writes.append(s.Access("residual", written.ravel(), done.ravel() + s.SUM_LATENCY))
            latency = s.OPERAND_LATENCY
        if target["dest"] == "codes":
            writes.append(s.Access("code", target["words"].ravel(), done.ravel() + latency))
            first_code = int(done[0, 0])
        elif target["dest"] in ("keys", "values"):
            writes.append(s.Access("kv", target["words"].ravel(), done.ravel() + s.CODE_LATENCY))
        if fields.get("track_max"):
            writes.append(s.Access("max", fields["row"] + np.arange(tokens), done[:, -1] + s.MAX_LATENCY))
        self._emit(opcode, fields, path, issues=tokens * groups * chunks * passes, reads=reads, writes=writes, macs=macs,
                   latency=latency, first_code=first_code)

    def _weights(self, weight, positions, out_positions=None):
        """Weight codes (out, in) at the byte positions of x -> fields of the instruction and the number of output channels."""
        chunks = int(positions.max()) // self.rows + 1
        outs = len(weight) if out_positions is None else int(out_positions.max()) + 1
        groups = -(-outs // self.cols)
        if out_positions is not None:
            groups = -(-groups // self.blocks) * self.blocks  # whole rows, since the padding must be zero
        full = np.zeros((groups * self.cols, chunks * self.rows), np.int64)
        where = np.arange(len(weight)) if out_positions is None else out_positions
        full[np.ix_(where, positions)] = weight
        wide = int(full.min() < -8 or full.max() > 7)
        blocks = full.reshape(groups, self.cols, chunks, self.rows).transpose(0, 2, 1, 3)  # group, chunk, column, row
        planes = [blocks & 15, (blocks >> 4) & 15][: 1 + wide]
        nibbles = np.stack(planes, 2).reshape(groups * chunks * (1 + wide), -1, 8).astype(np.uint32)
        words = (nibbles << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32)
        base = self.weights.add(words)
        return {"w_base": base, "w_wide": wide, "w_group": chunks * (1 + wide), "w_chunk": 1 + wide, "groups": groups, "chunks": chunks}

    def _parameters(self, groups, m, n, bias=None, where=None):
        """Fields for multipliers per channel or one for all, and biases; `where`: output position of each channel."""
        scalar = len(m) == len(n) == 1 and bias is None
        size = self.cols if scalar else groups * self.cols
        lanes = np.zeros((3, size), np.int64)
        lanes[1:] = [[m[0]], [n[0]]]
        if not scalar:
            channels = len(bias) if bias is not None else max(len(m), len(n))
            where = np.arange(channels) if where is None else where
            lanes[0, where] = 0 if bias is None else bias
            lanes[1, where] = m
            lanes[2, where] = n
        multiplier, shift = isa.scaled(lanes[1], lanes[2])
        words = np.stack([lanes[0] & 0x1FFFFFF, multiplier | shift << 17]).reshape(2, -1, self.cols).transpose(1, 0, 2)
        base = self.parameters.add(words.reshape(len(words), -1))
        return {"p_base": base, "p_group": int(not scalar)}

    @staticmethod
    def _limits(tensor, stage):
        return {f"z{stage}": tensor.zero_point, f"low{stage}": tensor.low, f"high{stage}": tensor.high}

    def _store(self, name, tensor, tokens, channels, owner=None):
        """Room in the code memory for (tokens, channels) -> View."""
        stride = -(-channels // self.rows)
        base = self.codes.take(owner or name, tokens * stride)
        return View(base, stride, tokens, np.arange(channels), tensor.low, tensor.high, tensor.zero_point, owner or name)

    def _code_target(self, view, groups, offset=0, tokens=None):
        tokens = view.tokens if tokens is None else tokens
        base = view.base + offset * view.stride
        words = base + np.arange(tokens)[:, None] * view.stride + np.arange(groups) // self.blocks
        return {"dest": "codes", "d_base": base, "d_token": view.stride, "words": words}

    # ---- Operations

    def _count_quantises(self):
        """How many times the samples are read: once for each layout of them."""
        return sum(self._sampled(o.inputs[0]) is not None for o in self.model.operations if o.kind == "reshape")

    def _sampled(self, name):
        """The operation, `quantise` or `placeholders`, whose samples a tensor holds unchanged; else None."""
        producer = self.producers[name]
        return producer if producer.kind in ("quantise", "placeholders") else None

    def _quantise(self, operation):
        pass  # laid out as tokens by `_reshape`

    def _placeholders(self, operation):
        if self._sampled(operation.inputs[0]) is None or self._sampled(operation.inputs[0]).kind != "quantise":
            raise ValueError(f"placeholders {operation.path}: the engine takes them from the input samples only")

    def _reshape(self, operation):
        source, out = operation.inputs[0], self._tensor(operation.output)
        sampled = self._sampled(source)
        if sampled is not None:
            samples, first = self.model.context, 0
            tokens, patch = out.shape
            if sampled.kind == "placeholders":
                samples = sampled.attributes["label"]
                first = self.model.context - samples
                if patch != 1:
                    raise ValueError(f"reshape {operation.path}: the engine makes single samples of placeholders, not patches of {patch}")
                tokens = samples
            quantise = self.model.operations[0]
            self.views[operation.output] = self._lay_out(quantise, operation.output, tokens, patch, first)
            return
        x = self.views[source]
        tokens, channels = self.model.tensors[source].shape
        if out.shape[0] != 1 and out.shape != (tokens, channels):
            raise ValueError(f"reshape {operation.path}: the engine flattens tokens or leaves them, not {(tokens, channels)} to {out.shape}")
        view = replace(x)
        if out.shape != (tokens, channels):
            positions = (np.arange(tokens)[:, None] * x.stride * self.rows + x.positions).ravel()
            view = replace(x, tokens=1, positions=positions)
        self.views[operation.output] = view

    def _lay_out(self, quantise, name, tokens, patch, first):
        """Quantise samples from the input buffer into tokens of `patch` samples."""
        if self.model.context > 4 * self.config.input_words:
            raise DoesNotFit("input buffer", self.model.context, 4 * self.config.input_words, "counts")
        tensor = self._tensor(quantise.output)
        view = self._store(name, tensor, tokens, patch)
        lanes = next(i for i in (2, 1, 0) if patch % (1 << i) == 0)
        groups = patch >> lanes
        done = self._loops(tokens, groups, 1)
        row = view.base + np.arange(tokens)[:, None] * view.stride + (np.arange(groups) << lanes) // self.rows
        fields = {
            "tokens": tokens, "groups": groups, "chunks": 1, "w_base": first, "lanes": lanes, "dest": "codes", "d_base": view.base,
            "d_token": view.stride, "wait_input": int(not self.instructions), "free_input": int(self.input_left == 1),
            **self._limits(tensor, 1), **self._parameters(1, self.array(quantise, "m"), self.array(quantise, "n")),
        }
        self.input_left -= 1
        self._emit("quantise", fields, quantise.path, issues=tokens * groups, first_code=0,
                   writes=[s.Access("code", row.ravel(), done.ravel() + s.CODE_LATENCY)])
        return view

    def array(self, operation, name):
        return self.model.arrays[f"{operation.path}.{name}"].astype(np.int64)

    def _last_tokens(self, operation):
        x, count = self.views[operation.inputs[0]], self.model.tensors[operation.output].shape[0]
        self.views[operation.output] = replace(x, base=x.base + (x.tokens - count) * x.stride, tokens=count)

    def _linear(self, operation, tokens=None):
        users = self.consumers[operation.output]
        kinds = {u.kind for u in users}
        if kinds == {"scores"} or kinds == {"context"}:
            return self._attention_operand(operation, users)
        if len(users) == 1 and users[0].kind in ("add", "add_position"):
            return self._added(operation, users[0])
        chained = users[0] if len(users) == 1 and users[0].kind == "linear" else None
        if chained and self.tile < self.model.tensors[operation.output].shape[0]:
            return self._tiled_pair(operation, chained)
        out = self._tensor(operation.output)
        self.views[operation.output] = view = self._store(operation.output, out, *out.shape)
        self._project(operation, self.views[operation.inputs[0]], view)

    def _project(self, operation, x, view):
        """A linear layer from codes to codes."""
        weight = self.model.weight(operation).astype(np.int64)
        fields = self._weights(weight, x.positions)
        parameters = self._parameters(fields["groups"], self.array(operation, "m"), self.array(operation, "n"), self.array(operation, "bias"))
        target = self._code_target(view, fields["groups"], tokens=x.tokens) | self._limits(self.model.tensors[operation.output], 1)
        self._product(operation.path, x, fields | parameters, target, macs=weight.size * x.tokens)

    def _tiled_pair(self, wide, narrow):
        """Two layers in a row, some tokens at a time, so that what lies between takes less memory."""
        x, out = self.views[wide.inputs[0]], self._tensor(wide.output)
        tile, tokens = self.tile, x.tokens
        between = self._store(wide.output, out, tile, out.shape[1])
        users = self.consumers[narrow.output]
        add = users[0] if len(users) == 1 and users[0].kind == "add" else None
        if add is None:
            raise DoesNotFit("code memory", self.config.code_depth + 1, self.config.code_depth, "rows")
        place = self._add_place(narrow, add)
        for start in range(0, tokens, tile):
            count = min(tile, tokens - start)
            part = replace(between, tokens=count)
            self._project(wide, self._tokens(x, start, count), part)
            self._add_into(narrow, add, part, place, start)
        self._added_done(narrow, add, place)
        self.fused |= {narrow.path}
        self.views[wide.output] = between
        self._release(narrow)
        self._release(add)

    @staticmethod
    def _tokens(view, start, count):
        return replace(view, base=view.base + start * view.stride, tokens=count)

    # ---- Residual adds

    def _load_position(self, operation):
        shape, bits = self.model.tensors[operation.output].shape, operation.attributes["position_bits"]
        from qatlib.integer_model import unpack

        codes = unpack(self.model.arrays[f"{operation.path}.position"], bits, shape)
        groups = -(-shape[1] // self.cols)
        base = self.residual.take(operation.path + ".position", shape[0] * groups)
        self.positions.append((base, self._bytes(codes, groups)))
        self.residuals[operation.path + ".position"] = base

    def _bytes(self, codes, groups):
        """(tokens, channels) -> uint32 (tokens * groups, cols / 4)."""
        full = np.zeros((len(codes), groups * self.cols), np.uint8)
        full[:, : codes.shape[1]] = codes & 255
        return full.reshape(len(codes) * groups, -1).view("<u4")

    def _added(self, linear, add):
        """A linear layer, the add after it, and the operand made of the sum, in one instruction."""
        place = self._add_place(linear, add)
        source = self.views[linear.inputs[0]]
        self._add_into(linear, add, source, place, 0)
        placeholders = self._zero_tokens(linear)
        if placeholders:
            self._add_into(linear, add, replace(source, tokens=placeholders, stride=0), place, source.tokens, zero=True)
        self._added_done(linear, add, place)
        self._release(add)

    def _zero_tokens(self, linear):
        """Tokens of the decoder's input that are the real zero, which have no samples."""
        producer = self.producers[linear.inputs[0]]
        if producer.kind == "reshape" and self.producers[producer.inputs[0]].kind == "placeholders":
            return self.model.tensors[producer.output].shape[0] - self.views[producer.output].tokens
        return 0

    def _add_place(self, linear, add):
        """Where the sum goes: its consumers decide. -> (operand operation or None, View of codes or None, residual base or None)."""
        users = self.consumers[add.output]
        tensor = self._tensor(add.output)
        tokens, channels = tensor.shape
        groups = -(-channels // self.cols)
        narrowed = [u for u in users if u.kind == "requantise"]
        direct = [u for u in users if u.kind not in ("requantise", "add")]
        operand = None if direct else next(iter(narrowed), None)
        kept = [u for u in users if u is not operand and u not in direct]
        view = None
        if operand is not None:
            view = self._store(operand.output, self._tensor(operand.output), tokens, channels)
        elif direct:
            view = self._store(add.output, tensor, tokens, channels)
        base = None
        if kept:
            other = self._other(linear, add)
            if add.kind == "add" and self.left[other] == 1 and other in self.residuals:
                base = self.residuals[other]
                self.residual.rename(other, add.output)  # the stream is updated in place
            else:
                base = self.residual.take(add.output, tokens * groups)
            self.residuals[add.output] = base
        return operand, view, base

    def _other(self, linear, add):
        if add.kind == "add_position":
            return add.path + ".position"
        names = [n for n in add.inputs if n != linear.output]
        if len(names) != 1:
            raise ValueError(f"add {add.path}: the engine adds two different tensors")
        return names[0]

    def _added_done(self, linear, add, place):
        operand, view, _ = place
        self.fused.add(add.path)
        if operand is not None:
            self.views[operand.output] = view
            self.fused.add(operand.path)
            self._release(operand)
        elif view is not None:
            self.views[add.output] = view

    def _add_into(self, linear, add, x, place, start, *, zero=False):
        operand, view, base = place
        weight, bias = self.model.weight(linear).astype(np.int64), self.array(linear, "bias")
        macs = weight.size * x.tokens
        if zero:
            bias, macs = bias + self.model.tensors[linear.inputs[0]].zero_point * weight.sum(1), 0
            weight = np.zeros_like(weight)
        fields = self._weights(weight, x.positions)
        groups = fields["groups"]
        fields |= self._parameters(groups, self.array(linear, "m"), self.array(linear, "n"), bias)
        fields |= self._limits(self._tensor(linear.output), 1)
        self._add_stage(add, self._other(linear, add), add.inputs[0] == linear.output, x, fields, place, start, linear.path, macs)

    def _add_stage(self, add, other, product_first, x, fields, place, start, path, macs):
        """Product, add and operand as one instruction. product_first: the product is the add's first input."""
        operand, view, base = place
        groups, tokens = fields["groups"], x.tokens
        if other not in self.residuals:
            raise ValueError(f"add {add.path}: the engine keeps {other} as codes, not in the residual stream")
        names = ("m1", "m2") if product_first else ("m2", "m1")
        first, second, offset, n = (self.array(add, name) for name in (*names, "c", "n"))
        stage2 = {
            "q_base": self._add_parameters(groups, first, second, offset, n), **self._limits(self.model.tensors[add.output], 2),
            "r_base": self.residuals[other] + start * groups, "r_token": groups, "r_unsigned": self._residual_unsigned(add, other),
        }
        index = np.arange(tokens)[:, None] * groups + np.arange(groups)
        written = None
        if base is not None:
            written = base + start * groups + index
            stage2 |= {"s_write": 1, "s_base": base + start * groups, "s_token": groups}
        target = {"dest": "none"}
        if view is not None:
            target = self._code_target(view, groups, start, tokens) | self._operand_fields(add, operand)
        self._product(path, x, fields, target, macs=macs, add=(stage2, stage2["r_base"] + index, written))

    def _residual_unsigned(self, add, other):
        return int(add.kind == "add" and self._tensor(other).low >= 0)

    def _add_parameters(self, groups, first, second, offset, n):
        lanes = np.zeros((3, groups * self.cols), np.int64)
        lanes[0, : len(first)] = first & 0x1FFFF | (n - 1) << 17
        lanes[1, : len(first)] = second & 0x1FFFF
        lanes[2, : len(first)] = offset & 0xFFFFFFFF
        return self.adds.add(lanes.reshape(3, groups, self.cols).transpose(1, 0, 2).reshape(groups, -1))

    def _operand_fields(self, add, operand):
        """The third stage: `operand`'s requantisation, or one that changes nothing."""
        m, n = IDENTITY if operand is None else (self.array(operand, "m"), self.array(operand, "n"))
        if len(m) > 1 or len(n) > 1:
            raise ValueError(f"requantise {operand.path}: the engine takes one multiplier for the tensor, not {len(m)}")
        limits = self.model.tensors[(operand or add).output]
        multiplier, shift = isa.scaled(int(m[0]), int(n[0]))
        return {"m3": multiplier, "n3": shift, **self._limits(limits, 3)}

    # ---- What is no product: an identity takes its place

    def _identity(self, x, channels):
        return self._weights(np.eye(channels, dtype=np.int64), x.positions)

    def _add(self, operation):
        """An add that no linear layer leads to: one of its tensors is taken from codes by an identity."""
        first = next((n for n in operation.inputs if n in self.views and n not in self.residuals), None)
        first = first or next((n for n in operation.inputs if n in self.views), None)
        if first is None:
            raise ValueError(f"add {operation.path}: the engine needs one of {operation.inputs} as codes")
        other = operation.inputs[1] if first == operation.inputs[0] else operation.inputs[0]
        if other not in self.residuals:
            self._to_residual(other)
        tensor, x = self._tensor(first), self.views[first]
        fields = self._identity(x, tensor.shape[1])
        fields |= self._parameters(fields["groups"], *IDENTITY, np.full(tensor.shape[1], -tensor.zero_point)) | self._limits(tensor, 1)
        fake = replace(self.producers[first], output=first)
        place = self._add_place(fake, operation)
        self._add_stage(operation, other, first == operation.inputs[0], x, fields, place, 0, operation.path, 0)
        self._added_done(fake, operation, place)

    def _add_position(self, operation):
        self._add_with_position(operation)

    def _add_with_position(self, operation):
        name = operation.inputs[0]
        tensor, x = self._tensor(name), self.views[name]
        fields = self._identity(x, tensor.shape[1])
        fields |= self._parameters(fields["groups"], *IDENTITY, np.full(tensor.shape[1], -tensor.zero_point)) | self._limits(tensor, 1)
        fake = replace(self.producers[name], output=name)
        place = self._add_place(fake, operation)
        self._add_stage(operation, operation.path + ".position", True, x, fields, place, 0, operation.path, 0)
        self._added_done(fake, operation, place)

    def _to_residual(self, name):
        """Copy a tensor of codes to the residual memory."""
        tensor, x = self._tensor(name), self.views[name]
        tokens, channels = tensor.shape
        fields = self._identity(x, channels)
        groups = fields["groups"]
        fields |= self._parameters(groups, *IDENTITY, np.full(channels, -tensor.zero_point)) | self._limits(tensor, 1)
        base = self.residual.take(name, tokens * groups)
        self.residuals[name] = base
        index = base + np.arange(tokens)[:, None] * groups + np.arange(groups)
        two, zero = np.full(channels, 2), np.zeros(channels, np.int64)
        stage2 = {
            "q_base": self._add_parameters(groups, two, zero, zero, zero + 1), "z2": 0, "low2": tensor.low, "high2": tensor.high,
            "r_base": base, "r_token": groups, "s_write": 1, "s_base": base, "s_token": groups,
        }
        self._product(name + " (copy)", x, fields, {"dest": "none"}, add=(stage2, index, index))

    def _requantise(self, operation):
        name = operation.inputs[0]
        tensor, out = self._tensor(name), self._tensor(operation.output)
        tokens, channels = tensor.shape
        view = self._store(operation.output, out, tokens, channels)
        self.views[operation.output] = view
        if name in self.views:
            x = self.views[name]
            fields = self._identity(x, channels)
            bias = np.full(channels, -tensor.zero_point)
            fields |= self._parameters(fields["groups"], self.array(operation, "m"), self.array(operation, "n"), bias)
            self._product(operation.path, x, fields, self._code_target(view, fields["groups"]) | self._limits(out, 1))
            return
        # From the residual memory: a product of nothing, the stream in its place, and the third stage
        groups = -(-channels // self.cols)
        x = View(view.base, 0, tokens, np.arange(1), -8, 7, 0, view.owner)
        fields = self._weights(np.zeros((channels, 1), np.int64), x.positions)
        fields |= self._parameters(groups, *IDENTITY, np.zeros(channels, np.int64)) | {"z1": 0, "low1": 0, "high1": 0}
        base = self.residuals[name]
        index = base + np.arange(tokens)[:, None] * groups + np.arange(groups)
        zero = np.zeros(channels, np.int64)
        less_zero_point = self._add_parameters(groups, zero, zero + 2, zero - 2 * tensor.zero_point, zero + 1)
        stage2 = {
            "q_base": less_zero_point, **self._limits(tensor, 2),
            "r_base": base, "r_token": groups, "r_unsigned": int(tensor.low >= 0),
        }
        target = self._code_target(view, groups) | self._operand_fields(None, operation)
        self._product(operation.path, x, fields, target, add=(stage2, index, None))

    def _pool(self, operation):
        """Sum over tokens: chunks walk over the tokens, each ROWS channels with an identity."""
        name = operation.inputs[0]
        tensor, out, x = self._tensor(name), self._tensor(operation.output), self.views[name]
        tokens, channels = tensor.shape
        view = self._store(operation.output, out, 1, channels)
        self.views[operation.output] = view
        m, n = self.array(operation, "m"), self.array(operation, "n")
        for row in range(-(-channels // self.rows)):
            here = min(self.rows, channels - row * self.rows)
            fields = self._weights(np.eye(here, dtype=np.int64), np.arange(here))
            per_channel = [a if len(a) == 1 else a[row * self.rows : row * self.rows + here] for a in (m, n)]
            fields |= self._parameters(fields["groups"], *per_channel, np.full(here, -tokens * tensor.zero_point))
            fields |= {"chunks": tokens, "x_chunk": x.stride, "w_chunk": 0}
            part = replace(view, base=view.base + row)
            one = replace(x, base=x.base + row, tokens=1)
            target = self._code_target(part, fields["groups"]) | self._limits(out, 1)
            self._product(operation.path, one, fields, target)

    # ---- Attention

    def _padded(self, channels, heads):
        """Output position of each channel when every head begins a row."""
        size = channels // heads
        pad = -(-size // self.rows) * self.rows
        return (np.arange(heads)[:, None] * pad + np.arange(size)).ravel(), pad

    def _attention_operand(self, operation, users):
        """Query to codes, key or value to their memory."""
        if len(users) != 1:
            raise ValueError(f"linear {operation.path}: the engine uses a query, key or value once")
        user, out = users[0], self._tensor(operation.output)
        heads, x = user.attributes["heads"], self.views[operation.inputs[0]]
        tokens, channels = out.shape
        role = "values" if user.kind == "context" else "queries" if user.inputs[0] == operation.output else "keys"
        where, pad = self._padded(channels, heads)
        weight = self.model.weight(operation).astype(np.int64)
        fields = self._weights(weight, x.positions, where)
        groups = fields["groups"]
        fields |= self._parameters(groups, self.array(operation, "m"), self.array(operation, "n"), self.array(operation, "bias"), where)
        fields |= self._limits(out, 1)
        if role == "queries":
            view = replace(self._store(operation.output, out, tokens, groups * self.cols), positions=where)
            self.views[operation.output] = view
            target = self._code_target(view, groups)
        elif role == "keys":
            chunks = groups // self.blocks
            base = self.kv.take(operation.output, -(-tokens // self.cols) * chunks)
            words = base + np.arange(tokens)[:, None] // self.cols * chunks + np.arange(groups) // self.blocks
            target = {"dest": "keys", "d_base": base, "d_token": chunks, "words": words}
            self.keys[operation.output] = (base, chunks, pad // self.rows, out)
        else:
            chunks = -(-tokens // self.rows)
            base = self.kv.take(operation.output, groups * chunks)
            words = base + np.arange(tokens)[:, None] // self.rows + np.arange(groups) * chunks
            target = {"dest": "values", "d_base": base, "d_token": chunks, "words": words}
            self.values[operation.output] = (base, chunks, pad // self.cols, out)
        self._product(operation.path, x, fields, target, macs=weight.size * tokens)

    def _scores(self, operation):
        """The whole attention up to its context: scores, sums, probabilities, context, for some queries at a time."""
        softmax = self._only(operation, "softmax")
        context = self._only(softmax, "context")
        value = self.producers[context.inputs[1]]
        if value.kind != "linear":
            raise ValueError(f"context {context.path}: the engine makes values by a linear layer, not by {value.kind}")
        if context.inputs[1] not in self.values:
            self._linear(value)
            self.fused.add(value.path)
            self._release(value)
        heads, query, keys = self.model.tensors[operation.output].shape
        out = self._tensor(context.output)
        where, pad = self._padded(out.shape[1], heads)
        result = replace(self._store(context.output, out, query, heads * pad), positions=where)
        self.views[context.output] = result
        tile = min(self.tile, query, self.config.softmax_rows // heads)
        if tile == 0:
            raise DoesNotFit("softmax memory", heads, self.config.softmax_rows, "rows")
        row_bytes = -(-keys // self.rows) * self.rows
        table = self._store(softmax.output, self._tensor(softmax.output), heads * tile, row_bytes)
        for start in range(0, query, tile):
            count = min(tile, query - start)
            parts = [replace(table, base=table.base + h * tile * table.stride, tokens=count) for h in range(heads)]
            for h in range(heads):
                self._score(operation, h, start, parts[h], h * tile)
            for h in range(heads):
                self._sum(softmax, parts[h], h * tile)
            for h in range(heads):
                self._probability(softmax, parts[h], h * tile)
            for h in range(heads):
                self._mix(context, h, parts[h], self._tokens(result, start, count), pad)
        self.codes.free(table.owner)
        self.kv.free(operation.inputs[1])
        self.kv.free(context.inputs[1])
        self.fused |= {softmax.path, context.path}
        for name in (softmax, context):
            for i in name.inputs:
                self.left[i] -= 1

    def _only(self, operation, kind):
        users = self.consumers[operation.output]
        if len(users) != 1 or users[0].kind != kind:
            raise ValueError(f"{operation.kind} {operation.path}: the engine takes it to one {kind} only")
        return users[0]

    def _score(self, operation, head, start, part, row):
        query, (base, stride, chunks, key) = self.views[operation.inputs[0]], self.keys[operation.inputs[1]]
        out = self.model.tensors[operation.output]
        x = self._tokens(query, start, part.tokens)
        x = replace(x, base=x.base + head * chunks)
        keys, channels = key.shape
        groups = -(-keys // self.cols)
        fields = {
            "w_base": base + head * chunks, "w_wide": int(key.low < -8 or key.high > 7), "w_group": stride, "w_chunk": 1,
            "groups": groups, "chunks": chunks, **self._parameters(groups, self.array(operation, "m"), self.array(operation, "n")),
        }
        target = self._code_target(part, groups) | self._limits(out, 1)
        extra = {"track_max": 1, "row": row, "count": keys}
        macs = part.tokens * keys * channels // out.shape[0]
        self._product(operation.path, x, fields, target, opcode="attend", macs=macs, extra=extra)

    def _softmax_pass(self, opcode, operation, part, row, groups, dwell, fields, reads, writes, **more):
        keys = self.model.tensors[operation.output].shape[2]
        done = self._loops(part.tokens, groups, dwell)
        rows = part.base + np.arange(part.tokens)[:, None] * part.stride + np.arange(groups) // self.blocks
        index = row + np.arange(part.tokens)
        table = self.model.arrays[f"{operation.path}.table"]
        exponent = next((e for e in (3, 4, 5, 6) if np.array_equal(table, softmax_table(e))), None)
        if exponent is None:
            raise ValueError(f"softmax {operation.path}: its table is not that of scores in steps of 2^-3 to 2^-6")
        common = {
            "tokens": part.tokens, "groups": groups, "chunks": dwell, "x_base": part.base, "x_token": part.stride, "count": keys,
            "row": row, "exponent": 6 - exponent, **fields,
        }
        accesses = [s.Access("code", rows.ravel(), done.ravel() - dwell + 1), *reads(done, index)]
        self._emit(opcode, common, operation.path, issues=part.tokens * groups * dwell, reads=accesses, writes=writes(done, index, rows), **more)

    def _sum(self, operation, part, row):
        keys = self.model.tensors[operation.output].shape[2]
        groups = -(-keys // self.cols)
        dwell = -(-s.DIVIDE // (groups * self.config.dividers))  # no divider gets a row before it has done with the last
        self._softmax_pass(
            "sum", operation, part, row, groups, dwell, {"numerator": int(self.array(operation, "numerator")[0])},
            lambda done, index: [s.Access("max", index, done[:, 0] - dwell + 1 + s.MAX_READ)],
            lambda done, index, rows: [s.Access("reciprocal", index, done[:, -1] + s.RECIPROCAL_LATENCY)],
        )

    def _probability(self, operation, part, row):
        out = self._tensor(operation.output)
        groups = part.stride * self.blocks  # whole rows: probabilities beyond the last key are zero
        fields = {
            "dest": "codes", "d_base": part.base, "d_token": part.stride, **self._limits(out, 1),
            # the multiplier is the row's reciprocal: of its own, 1 or 2, bit 1 doubles the table's entry
            **self._parameters(groups, np.array([1]), self.array(operation, "k")),
        }
        self._softmax_pass(
            "probability", operation, part, row, groups, 1, fields,
            lambda done, index: [s.Access("reciprocal", index, done[:, 0] + s.RECIPROCAL_READ)],
            lambda done, index, rows: [s.Access("code", rows.ravel(), done.ravel() + s.CODE_LATENCY)],
            first_code=0,
        )

    def _mix(self, operation, head, part, result, pad):
        base, chunks, head_groups, value = self.values[operation.inputs[1]]
        keys, channels = value.shape
        heads = operation.attributes["heads"]
        groups = -(-(channels // heads) // self.cols)
        fields = {
            "w_base": base + head * head_groups * chunks, "w_wide": int(value.low < -8 or value.high > 7), "w_group": chunks, "w_chunk": 1,
            "groups": groups, "chunks": chunks, **self._parameters(groups, self.array(operation, "m"), self.array(operation, "n")),
        }
        out = self.model.tensors[operation.output]
        target = self._code_target(replace(result, base=result.base + head * pad // self.rows), groups) | self._limits(out, 1)
        self._product(operation.path, part, fields, target, opcode="attend", macs=part.tokens * keys * channels // heads)

    def _output(self, operation):
        if -(-self.model.horizon // 4) > self.config.output_words:
            raise DoesNotFit("output buffer", self.model.horizon, 4 * self.config.output_words, "counts")
        name = operation.inputs[0]
        tensor, x = self._tensor(name), self.views[name]
        tokens, channels = tensor.shape
        done = self._loops(tokens, channels, 1)
        rows = x.base + np.arange(tokens)[:, None] * x.stride + np.arange(channels) // self.rows
        fields = {
            "tokens": tokens, "groups": channels, "chunks": 1, "x_base": x.base, "x_token": x.stride, "x_unsigned": int(x.unsigned),
            "z2": tensor.zero_point, **self._parameters(1, self.array(operation, "m"), self.array(operation, "n")),
        }
        self._emit("output", fields, operation.path, issues=tokens * channels, reads=[s.Access("code", rows.ravel(), done.ravel())])
