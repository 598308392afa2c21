package benchmark;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowBytesStoreSupplier;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Sum and count by tenant, type and region in one-minute windows, exactly once, on one thread, until
 * a number of records is aggregated. The store is in memory with a change log, behind the cache, so
 * that Kafka gets one record a commit and key; no RocksDB, no output topic.
 *
 * <p>Two ways: {@code processor} writes the window store of the record's own partition, as the
 * events are keyed by tenant; {@code dsl} is what the guide shows, groupBy, windowedBy, aggregate,
 * and pays for a repartition topic.
 *
 * <p>Arguments: bootstrap servers, topic, records, way, milliseconds between commits, directory.
 * Prints one line of JSON; exits with 1 when a thread dies.
 */
public final class WindowedSums {

    private static final String STORE = "sums";
    private static final Duration WINDOW = Duration.ofMinutes(1);
    private static final Duration LATE_MAX = Duration.ofDays(3);

    private WindowedSums() {}

    public static void main(String[] arguments) throws Exception {
        long records = Long.parseLong(arguments[2]);
        Progress progress = new Progress(records);
        Properties settings = settings(arguments[0], arguments[4], arguments[5]);
        Topology topology =
                arguments[3].equals("dsl")
                        ? asInTheGuide(arguments[1], progress)
                        : byPartition(arguments[1], progress);
        try (KafkaStreams streams = new KafkaStreams(topology, settings)) {
            streams.setUncaughtExceptionHandler(
                    problem -> {
                        problem.printStackTrace();
                        Runtime.getRuntime().halt(1);
                        return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                    });
            streams.start();
            progress.awaitLast();
            System.out.println(
                    "{\"marks\": %s, %s}".formatted(progress.asJson(), totals(streams)));
        }
    }

    private static Topology byPartition(String topic, Progress progress) {
        StoreBuilder<WindowStore<String, Sums>> store =
                Stores.windowStoreBuilder(inMemory(), Serdes.String(), Sums.serde())
                        .withCachingEnabled();
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(store);
        builder.stream(topic, consumed()).process(() -> new Adding(progress), STORE);
        return builder.build();
    }

    private static Topology asInTheGuide(String topic, Progress progress) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(topic, consumed())
                .map((tenant, event) -> KeyValue.pair(group(event), event.quantity()))
                .groupByKey(Grouped.with(Serdes.String(), Serdes.Long()))
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, LATE_MAX))
                .aggregate(
                        () -> Sums.NOTHING,
                        (group, quantity, sums) -> {
                            progress.one();
                            return sums.with(quantity);
                        },
                        Materialized.<String, Sums>as(inMemory())
                                .withKeySerde(Serdes.String())
                                .withValueSerde(Sums.serde())
                                .withCachingEnabled());
        return builder.build();
    }

    private static final class Adding extends ContextualProcessor<byte[], Event, Void, Void> {

        private final Progress progress;
        private WindowStore<String, Sums> store;

        Adding(Progress progress) {
            this.progress = progress;
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            super.init(context);
            store = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], Event> record) {
            Event event = record.value();
            String group = group(event);
            long start = record.timestamp() - Math.floorMod(record.timestamp(), WINDOW.toMillis());
            Sums before = store.fetch(group, start);
            store.put(group, (before == null ? Sums.NOTHING : before).with(event.quantity()), start);
            progress.one();
        }
    }

    private static String group(Event event) {
        return event.tenant() + '\0' + event.type() + '\0' + event.region();
    }

    private static WindowBytesStoreSupplier inMemory() {
        return Stores.inMemoryWindowStore(STORE, LATE_MAX.plus(WINDOW), WINDOW, false);
    }

    private static Consumed<byte[], Event> consumed() {
        Deserializer<Event> from = (topic, bytes) -> Event.decode(bytes);
        Serde<Event> serde =
                Serdes.serdeFrom(
                        (topic, event) -> {
                            throw new UnsupportedOperationException("events are only read");
                        },
                        from);
        return Consumed.with(Serdes.ByteArray(), serde)
                .withTimestampExtractor(
                        (record, partitionTime) -> ((Event) record.value()).timeMicros() / 1_000);
    }

    /** What the store holds at the end: every record must be counted in it once. */
    private static String totals(KafkaStreams streams) {
        long rows = 0;
        long count = 0;
        long sum = 0;
        var query =
                StoreQueryParameters.fromNameAndType(
                        STORE, QueryableStoreTypes.<String, Sums>windowStore());
        try (KeyValueIterator<Windowed<String>, Sums> all = streams.store(query).all()) {
            while (all.hasNext()) {
                Sums sums = all.next().value;
                rows++;
                count += sums.count();
                sum += sums.sum();
            }
        }
        return "\"rows\": %d, \"count\": %d, \"sum\": %d".formatted(rows, count, sum);
    }

    private static Properties settings(String servers, String commitMillis, String directory)
            throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, Path.of(directory).getFileName().toString());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "1");
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, commitMillis);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "268435456");
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, "10000");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), "10000");
        settings.put(
                StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), "4194304");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), "50");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), "1000000");
        Files.createDirectories(Path.of(directory));
        return settings;
    }
}
