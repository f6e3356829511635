"""Triton's interpreter, made faster."""

from __future__ import annotations

from typing import Any


def patch_language_once_a_launch() -> None:
    """Triton's interpreter patches its whole language anew at each call of a device function, which is most of the time of a
    small kernel: do it once a launch. A Triton without these internals is only slower. TRITON_INTERPRET=1 is set before."""
    import triton.language as tl
    from triton.runtime import interpreter

    if not all(hasattr(interpreter, name) for name in ("_patch_lang", "_LangPatchScope", "GridExecutor")):
        return
    patch, run = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched: set[int] = set()

    def patch_once(function: Any) -> Any:
        modules = {id(value) for value in function.__globals__.values() if value is tl or value is tl.core}
        if modules <= patched:
            return interpreter._LangPatchScope()
        patched.update(modules)
        return patch(function)

    def run_afresh(*arguments: Any, **words: Any) -> Any:
        patched.clear()
        return run(*arguments, **words)

    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch_once, run_afresh
