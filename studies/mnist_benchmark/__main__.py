from studies.command import main

raise SystemExit(main("mnist_benchmark"))
