"""quickstart: A Flower / NumPy app."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from quickstart.task import load_data, load_model
from quickstart.task import test as test_fn
from quickstart.task import train as train_fn

# Flower ClientApp
app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = dict(zip(load_model(), msg.content["arrays"].to_numpy_ndarrays(), strict=True))
    x, y, _, _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    train_loss = train_fn(model, x, y, context.run_config["local-epochs"], context.run_config["lr"])

    model_record = ArrayRecord(list(model.values()))
    metric_record = MetricRecord({"train_loss": train_loss, "num-examples": len(x)})
    return Message(content=RecordDict({"arrays": model_record, "metrics": metric_record}), reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = dict(zip(load_model(), msg.content["arrays"].to_numpy_ndarrays(), strict=True))
    _, _, x, y = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])

    metric_record = MetricRecord({"eval_loss": test_fn(model, x, y), "num-examples": len(x)})
    return Message(content=RecordDict({"metrics": metric_record}), reply_to=msg)
