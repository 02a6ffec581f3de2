from studies.command import main

raise SystemExit(main("applications"))
