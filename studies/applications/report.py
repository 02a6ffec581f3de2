"""Claims and page of this study."""

from studies.applications import APPLICATIONS
from studies.applications.measure import module
from studies.report import Claim


def claims(results):
    """Returns the claims, decided; of an application that was not measured one that is open."""
    found = []
    for name in APPLICATIONS:
        if name in results["measured"]:
            found += module(name).claims(results["measured"][name])
        else:
            reason = results["left_out"][name]
            found.append(Claim(module(name).TITLE, f"not measured: {reason}", None))
    return found


def values(results):
    """Returns the values of the page, see `report.write`: the section of each application."""
    return {
        name: module(name).section(results["measured"][name])
        if name in results["measured"]
        else f"Not measured: {results['left_out'][name]}."
        for name in APPLICATIONS
    }
