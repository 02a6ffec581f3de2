"""What the study says, from what was measured."""

from keras_diffusion.evaluation.scores import SURE
from studies.morphing import limits, restoration
from studies.page import Claim, lower, number, picture, table

ENOUGH, VARIED = 0.75, 0.25  # "digits come out": the classifier is sure of at least so many,
# and at most so many would have to be another digit; of a mean of all digits it may be sure too
RIGHT, UNTIL = 0.9, 0.8  # share of restored digits, and the t up to which it is to hold
NEARER = 0.98  # of the error: less is "more faithful"
HARMLESS = 0.05  # share of pictures by which the classifier may be less sure
OWN = 0.9  # of the garments of a set give a digit of their own
BIASED = 0.05  # share of pictures that would have to be another digit, more than of garments
GRID_TITLES = {"uniform_t": "t", "uniform_logsnr": "logSNR"}


def way_title(way):
    """A way of sampling in a few words."""
    if way["num_steps"] == 1:
        return "1 step"
    return f"{way['num_steps']} steps in {GRID_TITLES[way['grid']]}, {way['update']}"


# Claims -------------------------------------------------------------------------------------


def claims(results):
    """Returns the study's claims, decided."""
    morphing, noise = results["morphing"], results["noise"]
    ways, best = results["ways"][morphing], results["best"]
    found = results["limits"]
    return [
        _digits_come_out(found["sets"], results["classifier"]),
        lower(
            "with the same U-Net, garments give better digits than Gaussian noise: it was the "
            "morphing",
            {"garments": best[morphing], "noise": best[noise]},
        ),
        lower(
            "the cosine schedule is better than the linear one",
            {name: best[f"morphing-{name}"] for name in ("cosine", "linear")},
        ),
        lower(
            "to hold the known garment is better than to estimate it again",
            {update: _best_of(ways, update=update) for update in ("held", "re-estimated")},
        ),
        lower(
            "equal steps in t are better than equal steps in logSNR",
            {GRID_TITLES[grid]: _best_of(ways, grid=grid) for grid in GRID_TITLES},
        ),
        lower(
            f"{best[morphing]['num_steps']} steps are better than one",
            {"steps": best[morphing], "one": _best_of(ways, num_steps=1)},
        ),
        *_restoration_claims(results["restored"][morphing]),
        _sets(found["sets"]["sizes"]),
        _noise(found["noise"], found["sets"]["sure"]),
        _averages(found["averages"], found["sets"]),
        lower(
            "starting points that a mixture of Gaussians makes up are no worse than garments",
            {"made up": found["mixture"]["mixture"], "garments": found["sets"]},
            equal=True,
        ),
    ]


def _best_of(ways, **wanted):
    """The way of the lowest distance among those that are as wanted; single steps only if asked."""
    some = [
        way
        for way in ways
        if all(way[name] == value for name, value in wanted.items())
        and (way["num_steps"] > 1 or "num_steps" in wanted)
    ]
    return min(some, key=lambda way: way["distance"])


def _digits_come_out(score, real):
    return Claim(
        f"digits of all kinds come out of garments (the classifier is sure of {ENOUGH:.0%}, and at "
        f"most {VARIED:.0%} are too many of their kind)",
        f"sure of {score['sure']:.0%} (of real digits {real['sure']:.0%}), too many "
        f"{score['off']:.0%}; distance {_off(score)}",
        score["sure"] >= ENOUGH and score["off"] <= VARIED,
    )


def _restoration_claims(found):
    until = {way: restoration.right_until(found, way, RIGHT) for way in restoration.BLIND}
    place = restoration.hard_time(found)
    direct, iterative = (found["ways"][way]["off"][place] for way in restoration.BLIND)
    ratio = iterative / direct
    return [
        Claim(
            f"{RIGHT:.0%} of restored digits are right up to t = {UNTIL:g}",
            "up to " + ", ".join(f"{t:g} ({way})" for way, t in until.items()),
            max(until.values()) >= UNTIL,
        ),
        Claim(
            "iterating restores more faithfully than one prediction",
            f"error at t = {restoration.TIMES[place]:g}: {number(iterative)} grey levels, direct "
            f"{number(direct)}",
            None if NEARER < ratio < 1 / NEARER else ratio < 1,
        ),
    ]


def _sets(sizes):
    listed = ", ".join(f"{each['different']} of {each['drawn']}" for each in sizes)
    return Claim(
        f"every garment gives a digit of its own (at least {OWN:.0%} of those drawn, from sets of "
        "all sizes; more than one there cannot be)",
        f"different: {listed} garments drawn",
        all(each["different"] >= OWN * each["drawn"] for each in sizes),
    )


def _noise(found, sure):
    harmless = [each for each in found if each["sure"] >= sure - HARMLESS]
    most = max(harmless, key=lambda each: each["different"], default=None)
    measured = "sure of fewer at every strength"
    if most:
        measured = (
            f"{most['different']} different of {most['images']} with noise of "
            f"{most['strength']:g}, from {most['of']} garments"
        )
    return Claim(
        "noise on garments gives more digits (twice as many as garments), and does no harm",
        measured,
        bool(most) and most["different"] >= 2 * most["of"],
    )


def _averages(found, sets):
    last = found[-1]
    digit = max(range(len(last["shares"])), key=lambda digit: last["shares"][digit])
    return Claim(
        f"averages of {last['averaged']} garments favour some digits",
        f"off the shares of real digits: {last['off']:.0%}, single garments {sets['off']:.0%}; "
        f"most often a {digit}, {last['shares'][digit]:.0%}",
        last["off"] > sets["off"] + BIASED,
    )


# The rest of the page ------------------------------------------------------------------------


def report(results):
    """Returns the page's parts."""
    return [
        *_training(results),
        *_sampling(results),
        *_restoration(results),
        *_limits(results),
        *_settings(results),
    ]


def _off(score):
    return f"{number(score['distance'])} ± {number(score['error'], 2)}"


def _training(results):
    plan = results["plan"]
    rows = [
        [
            name,
            number(training["val_loss"][-1]),
            *(number(score["distance"]) for score in training["scores"]),
            f"{training['scores'][-1]['sure']:.0%}",
            f"{training['seconds'] / 60:.1f}",
        ]
        for name, training in results["trainings"].items()
    ]
    after = [f"after {epochs} epochs" for epochs in plan["ends"]]
    header = ["training", "validation loss", *after, "sure", "minutes"]
    training = results["trainings"][results["morphing"]]
    return [
        "## Trainings",
        table(header, rows),
        f"The same network ({training['parameters'] / 1e6:.2f} M parameters), first weights, "
        f"digits and steps; {training['images']:,} images each. In the last row Gaussian noise "
        "takes the place of the garments, with the better schedule. Numbers are Frechet "
        f"distances of {plan['pictures']:,} pictures to all real digits, in the features of a "
        f"classifier (right about {results['classifier']['test_accuracy']:.1%} of held-out "
        f"digits); as many real held-out digits have {number(results['classifier']['floor'])}, "
        f"and it is sure of {results['classifier']['sure']:.0%} of them. "
        f"Drawn in {plan['curve_steps']} steps equal in t, re-estimated, from held-out garments. "
        f"Sure: pictures that the classifier gives one class above {SURE:.0%}, which it may do "
        "with a blur too. Losses of different tasks do not compare.",
        picture("losses.png", "Left: loss of each epoch, dots: validation. Right: the distance"),
        picture("grids.png", "The same starting points after more and more epochs"),
    ]


def _sampling(results):
    names = list(results["trainings"])
    rows = []
    for way in results["ways"][results["morphing"]]:
        row = [way_title(way)]
        for name in names:
            same = [each for each in results["ways"][name] if way_title(each) == way_title(way)]
            row.append(f"{_off(same[0])} ({same[0]['sure']:.0%})" if same else "-")
        rows.append(row)
    best = [results["best"][name] for name in names]
    rows.append(["the best", *map(way_title, best)])
    rows.append(["the same, scored anew", *(f"{_off(each)} ({each['sure']:.0%})" for each in best)])
    return [
        "## Ways of sampling",
        table(["distance (sure)", *names], rows),
        "The lowest of several distances is too low, the more so the more there are. So the best "
        "way of most steps, and the better schedule, are chosen by these distances, and scored "
        "anew from other starting points: those scores decide the claims about garments and "
        "noise, the schedules, and many steps and one.",
        "From a garment alone, the first prediction can be no more than the mean of all digits; "
        "what digit it becomes is decided by what the network takes for traces of one. Held, the "
        "result is a mean of all predictions, weighted by the steps in signal rate, so the first "
        "blurs stay in it; re-estimated, it is the last prediction.",
        picture("ways.png", f"{results['morphing']}: the same garments in every way"),
    ]


def _restoration(results):
    rows = []
    for name, found in results["restored"].items():
        for way in (restoration.MIXED, *restoration.WAYS):
            until = (restoration.right_until(found, way, share) for share in (RIGHT, 0.5))
            hard = restoration.hard_time(found)
            each = found["ways"][way]
            rows.append([name, way, *(f"{t:g}" for t in until), f"{restoration.TIMES[hard]:g}",
                         f"{each['right'][hard]:.0%}", number(each["off"][hard])])  # fmt: skip
    header = ["training", "restored", f"{RIGHT:.0%} right up to t", "half right up to t", "at t",
              "right", "error"]  # fmt: skip
    return [
        "## Restoration",
        f"{results['plan']['restored']} held-out digits are mixed with garments and restored: by "
        "one prediction (direct), or by iterating; held, it is told the garment, which the others "
        "are not. Right: the classifier takes it for what it was. Error: root mean square, in "
        "grey levels of 255.",
        table(header, rows),
        picture("right.png", "Share of right digits, and error, at every t"),
        picture("restored.png", "One digit, mixed with a garment at every t, and restored"),
        picture("ten.png", f"Ten digits by {results['morphing']}: direct against iterative"),
    ]


def _limits(results):
    found = results["limits"]
    mixture = found["mixture"]
    kinds = {"garments": found["sets"]}
    kinds |= {f"averages of {each['averaged']}": each for each in found["averages"]}
    kinds |= {
        f"garments with noise of {each['strength']:g} ({each['of']} garments)": each
        for each in found["noise"][2::2]
    }
    kinds |= {"garments by their principal components": mixture["projected"]}
    kinds |= {"made up by the mixture": mixture["mixture"]}
    rows = [
        [
            name,
            f"{each['different']} of {each['images']}",
            _off(each),
            f"{each['sure']:.0%}",
            f"{each['off']:.0%}",
        ]
        for name, each in kinds.items()
    ]
    plan, near = results["plan"], mixture["nearest"]
    return [
        "## Limits",
        f"All with {results['morphing']}, {way_title(results['best'][results['morphing']])}. "
        f"Pictures that differ by less than {limits.ALIKE:g} grey levels (rms) count as one. Off: "
        "the share of pictures that would have to be another digit, for the shares to be those of "
        "real digits.",
        table(["starting points", "different", "distance", "sure", "off"], rows),
        picture("limits.png", "A garment always gives the same digit; noise gives others"),
        picture("shares.png", "Which digits come out; right: of which kind of garment"),
        f"The mixture of {plan['components']} Gaussians is fitted to {plan['dimensions']} "
        f"principal components ({mixture['kept']:.0%} of the variance) of {plan['fitted']:,} "
        "garments, and gives as many starting points as one likes. The nearest garment of those "
        f"is {number(near['made up'])} grey levels (rms) from what is made up, and "
        f"{number(near['held out'])} from held-out garments, by their principal components.",
        picture("starts.png", "Starting points, and the digits they become"),
    ]


def _settings(results):
    plan = results["plan"]
    rates = ", ".join(
        f"{found['signal_rates'][-1]:.1%} ({name})" for name, found in results["restored"].items()
    )
    return [
        "## The settings",
        f"- {plan['epochs']} epochs of {plan['epoch_images']:,} images, batches of "
        f"{plan['batch_size']}, AdamW {plan['learning_rate']:g}, {plan['precision']}, average of "
        "the weights. `--epochs` and `--minutes` make it longer.\n"
        f"- ConvNeXt U-Net of widths {', '.join(map(str, plan['widths']))} without attention: "
        "depthwise 3x3, then two 3x3 convolutions (ConvNeXt has 1x1), expansion "
        f"{plan['expansion']} (ConvNeXt has 4), silu, the time added to every block.\n"
        "- x0-prediction, squared error (Bansal et al. take the absolute one). In training the "
        f"signal rate at t = 1 is not 0 but {rates}; in sampling there is no signal at all.",
    ]
