"""Small mistakes in a solution, one at a time: what a student may well have written."""
import ast
import copy

OTHER = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
         ast.Pow: ast.Mult, ast.Mod: ast.FloorDiv, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
         ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr,
         ast.BitOr: ast.BitAnd}
NAMES = {"sin": "cos", "cos": "sin", "mean": "sum", "sum": "mean", "min": "max", "max": "min", "amin": "amax",
         "amax": "amin", "argmin": "argmax", "argmax": "argmin", "floor": "ceil", "ceil": "floor", "cumsum": "cumprod",
         "square": "abs", "abs": "square", "sqrt": "square", "std": "var", "var": "std", "median": "mean"}


def slips(node):
    """The mistakes that one node of the syntax tree allows: functions that change it."""
    def set_(field, value): return lambda: setattr(node, field, value)
    for field in ("op",):
        if type(operator := getattr(node, field, None)) in OTHER: yield set_(field, OTHER[type(operator)]())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        yield lambda: node.ops.__setitem__(0, OTHER[type(node.ops[0])]())
    if isinstance(node, ast.Attribute) and node.attr in NAMES: yield set_("attr", NAMES[node.attr])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield lambda: setattr(node.func, "id", NAMES[node.func.id])
    if isinstance(node, ast.IfExp): yield lambda: vars(node).update(body=node.orelse, orelse=node.body)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Invert, ast.Not)):
        yield set_("op", ast.UAdd())
    if isinstance(node, ast.Call) and len(node.args) > 1: yield lambda: node.args.insert(0, node.args.pop(1))
    if isinstance(node, ast.Call) and node.keywords: yield lambda: node.keywords.pop()
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield set_("value", node.value + 1 if isinstance(node.value, int) else 2 * node.value)


def mistakes(solution):
    """(line, code) for each small mistake in the code of a solution; those on the last lines first, where results are
    made."""
    tree = ast.parse(solution)
    count = [len(list(slips(node))) for node in ast.walk(tree)]
    places = [(i, j) for i, n in enumerate(count) for j in range(n)]
    lines = [getattr(node, "lineno", 0) for node in ast.walk(tree)]
    for i, j in sorted(places, key=lambda place: -lines[place[0]]):
        changed = copy.deepcopy(tree)
        list(slips(list(ast.walk(changed))[i]))[j]()
        code = ast.unparse(ast.fix_missing_locations(changed))
        if code != ast.unparse(tree): yield lines[i], code
