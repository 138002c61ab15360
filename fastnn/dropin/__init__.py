"""fastnn's ops in place of somebody else's functions and methods, without an edit of their files.

Their classes and functions stay.  Those whose names say that fastnn may have the same are given a guard (`guards`): at
each call it asks a gate, which knows kinds of calls (`kinds`).  At the first call of a kind their own code runs, and
what it leaves behind is compared with what each op that comes into question leaves (`search`, `fastnn.trials`), on the
call's own numbers and on others of the same kind.  From then on the op that agrees everywhere serves that kind, or
their own code, where none does.  Only code that has no effect beside its arguments is tried (`reach`).
"""

from fastnn.dropin.face import Finding, Patch, Replacer, patch, told, unpatch

__all__ = ["Finding", "Patch", "Replacer", "patch", "told", "unpatch"]
