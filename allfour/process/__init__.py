"""How a command's own process starts and ends: sooner, and with the same figures.

own_process
    Whether a process is a command's; in notebooks and programs of others nothing of the following is done.
deferred, bare_packages, frames
    Parts of other packages that are imported when something of theirs is used. Nothing is missing: where a version of a package asks for
    what is not foreseen, the real module or the whole package takes the place, and only time is lost. With `ALLFOUR_PLAIN_IMPORTS=1` in the
    environment a command imports as any program does. tests/process has them on packages made up for it, and fails where a sandbox audit
    loads what is listed; with a new version of a package, that is the test to look at.
standard
    Standard streams that came closed.
parent
    The process that started a command, and with which it ends.
collecting
    The garbage collector, seldom while packages are imported.
ending
    The end, at once where Python would first visit every object.
"""
