"""
The stack behind `budget up`: everything on this machine, as children of one process, gone when it goes.

child.py       one process of ours: started, watched, stopped; it dies with us even on kill -9
ports.py       which ports are free, and which were used last time
postgres.py    PostgreSQL from the wheel          database_dir.py  where its files may live when we are root
kafka.py       which broker: configured, Apache Kafka, or the trial broker
apache.py      Apache Kafka in KRaft mode         jars.py          Java, KAFKA_HOME, and the jars by Maven
trial.py       the broker for trying things out
roles.py       the roles of budget_bus as processes
supervisor.py  keeps all of these running         stack.py         `budget up` from lock to ready
state.py       what is running where, for the other commands
"""
