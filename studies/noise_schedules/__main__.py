from studies.command import main

raise SystemExit(main("noise_schedules"))
