from studies.command import main

raise SystemExit(main("one_image"))
