"""Where the tensors of a program lie in a device's memory."""


def arrange(operations, size, scratch, renames):
    """-> {tensor: place}, bytes of all: the lowest place that no tensor alive at the same time takes.

    size: of a tensor's name, -> its bytes. scratch: of an operation, -> bytes that it needs for its call; they lie at
    (its path, "scratch"). renames: of an operation, -> whether its result is what it takes by another name.
    """
    names, lives, sizes = _lives(operations, size, scratch, renames)
    places = {}
    for name in sorted(sizes, key=sizes.get, reverse=True):
        first, last = lives[name]
        beside = [other for other in places if lives[other][0] <= last and first <= lives[other][1]]
        places[name] = _lowest(sorted((places[other], places[other] + sizes[other]) for other in beside), sizes[name])
    workspace = max(places[name] + size for name, size in sizes.items())
    return places | {name: places[held] for name, held in names.items()}, workspace


def _lives(operations, size, scratch, renames):
    """-> {tensor: the one whose bytes it is}, {bytes: [first operation, last]}, {bytes: how many}"""
    names, lives, sizes = {}, {}, {}
    for now, operation in enumerate(operations):
        for name in operation.inputs:
            lives[names[name]][1] = now
        if renames(operation):
            names[operation.output] = names[operation.inputs[0]]
        elif operation.kind != "output":
            names[operation.output], lives[operation.output] = operation.output, [now, now]
            sizes[operation.output] = size(operation.output)
            if room := scratch(operation):
                lives[operation.path, "scratch"], sizes[operation.path, "scratch"] = [now, now], room
    return names, lives, sizes


def _lowest(taken, size):
    place = 0
    for start, end in taken:
        if place + size <= start:
            break
        place = max(place, -(-end // 4) * 4)  # there are words among them
    return place
